//! What a journal held when it was opened.

use super::Entry;
use crate::policy::mitigation::ActionId;
use crate::policy::orders::Orders;

/// What was before: in force or may be, and ordered.
#[derive(Debug, Default)]
pub struct Before {
    /// Oldest first.
    pub entries: Vec<Entry>,
    /// Greater than every id that is known to have been given.
    pub next_id: ActionId,
    /// None where they could not be read.
    pub orders: Orders,
    /// What a crash cost; told once to the operator.
    pub damage: Option<String>,
    /// Why nobody knows what was ordered.
    pub unread_orders: Option<String>,
}
