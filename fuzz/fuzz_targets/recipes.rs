//! Recipes of an operator: text, HTTP, and nginx's status page.

#![no_main]

node_guardian_fuzz::target!("recipes");
