//! Does what the daemon would do to a service, through the same control, and undoes it.

use node_guardian::control::Control;
use node_guardian::control::consent::Consent;
use node_guardian::control::failure::Failure;
use node_guardian::control::target::Target;
use node_guardian::control::undo::Undo;
use node_guardian::policy::mitigation::{Amount, Mitigation, Verb};
use tokio::runtime::Runtime;

pub struct Actor {
    runtime: Runtime,
    control: Control,
}

/// What is in force.
pub struct InForce(Undo);

impl Actor {
    pub fn new(target: &Target) -> Result<Self, String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| format!("no runtime: {error}"))?;
        Ok(Self { runtime, control: Control::new(target) })
    }

    pub fn apply(&mut self, verb: Verb, kept_percent: f64) -> Result<InForce, String> {
        let mitigation = Mitigation { control: "it".into(), verb, amount: Amount::Keep(kept_percent) };
        let (control, runtime) = (&mut self.control, &self.runtime);
        let applied = runtime.block_on(async {
            let mut undo = control.capture(&mitigation).await?;
            control.apply(&mut undo, &Consent::always()).await?;
            Ok(undo)
        });
        let undo = applied.map_err(|failure: Failure| failure.detail)?;
        if undo.changes.is_empty() { Err(format!("{mitigation} changed nothing")) } else { Ok(InForce(undo)) }
    }

    /// What came of something that is done once.
    pub fn pulse(&mut self, verb: Verb) -> Result<String, String> {
        let mitigation = Mitigation { control: "it".into(), verb, amount: Amount::Whole };
        let done = self
            .runtime
            .block_on(self.control.pulse(&mitigation, &Consent::always()))
            .map_err(|failure| failure.detail)?;
        Ok(format!("{}; {}", done.outcome, done.detail))
    }

    pub fn undo(&mut self, in_force: &InForce) -> Result<(), String> {
        self.runtime.block_on(self.control.undo(&in_force.0)).map(drop).map_err(|failure| failure.detail)
    }
}
