//! The one integration binary: the crate from outside, one module per area.

mod http;
