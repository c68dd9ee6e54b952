//! What is written: text to a tree whose every key and value knows its place, read table by table and value by value, with
//! a complaint for each mistake. What the keys mean is the business of whoever reads them.

pub mod complaint;
pub mod node;
pub mod origin;
pub mod secret;
pub mod section;
pub mod value;
