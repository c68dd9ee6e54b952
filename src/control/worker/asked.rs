//! What a service tells of itself when the loop asks: it is answered in any case, so that nobody is waited for in vain.

use std::sync::Arc;

use super::task::Task;
use crate::inbox::Message;
use crate::policy::gives::Gives;

impl Task {
    pub(super) async fn numbers(&mut self) -> bool {
        let numbers = match &mut self.configured {
            Some((_, control)) => control.numbers().await,
            None => Vec::new(),
        };
        self.shared.door.tell(Message::Numbers { control: Arc::clone(&self.name), numbers })
    }

    pub(super) async fn gives(&mut self) -> bool {
        let gives = match &mut self.configured {
            Some((_, control)) => control.gives().await,
            None => Gives::default(),
        };
        self.shared.door.tell(Message::Gives { control: Arc::clone(&self.name), gives })
    }
}
