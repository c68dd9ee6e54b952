//! Text to settings. Every complaint of a configuration is found in one run; nothing here touches a control.

pub mod settings;
