//! The one integration binary; its data lies beside it.

mod config;
