//! Whose connections rules ask for, by the plan.

use crate::policy::metric::{Family, Metric};
use crate::policy::plan::Plan;
use crate::policy::rule::Rule;

/// Whose connections rules ask for.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Wanted {
    /// In ascending order.
    pub named: Vec<u16>,
    pub others: Others,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Others {
    All,
    #[default]
    None,
}

impl Wanted {
    /// The worst of all ports, and whoever stands before one that drops requests, can only be told by looking at all.
    #[must_use]
    pub fn by(plan: &Plan) -> Self {
        let is_port = |metric: Metric| metric.family() == Family::Port;
        let ports = plan.operands().iter().filter(|operand| is_port(operand.metric));
        let mut named: Vec<u16> = ports.clone().filter_map(|port| port.selector.as_ref()?.parse().ok()).collect();
        named.sort_unstable();
        named.dedup();
        let is_about_listeners = |metric: Metric| {
            is_port(metric)
                || matches!(metric, Metric::ConnectionsListenOverflowRate | Metric::ConnectionsListenDropsRate)
        };
        let acts = |rule: &Rule| {
            let comparisons = rule.when.expression.comparisons();
            !rule.steps.is_empty() && comparisons.iter().any(|of| is_about_listeners(of.operand.metric))
        };
        let worst = ports.clone().any(|port| port.selector.is_none());
        let others = if worst || plan.rules().iter().any(acts) { Others::All } else { Others::None };
        Self { named, others }
    }
}
