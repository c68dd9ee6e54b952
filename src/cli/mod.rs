//! temporary
pub mod replay;
pub mod run;
pub mod code {
    pub const BAD_CONFIGURATION: u8 = 78;
    pub const INTERNAL: u8 = 70;
}
