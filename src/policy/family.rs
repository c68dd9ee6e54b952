//! What metrics are counted per, one line a family: the word in front of the selector, what it selects, one such instance,
//! and how it is written.

/// How a selector is written, and what can be one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Selector {
    /// One number for the whole node.
    Nothing,
    /// `["/var"]`
    Path,
    /// `["eth0"]`
    Name,
    /// `[443]`
    Port,
    /// `["api"].inflight`: a control, and what it calls its number.
    Reported,
}

macro_rules! families {
    ($($variant:ident = $prefix:literal, $instance:literal, $example:literal, $selector:ident;)*) => {
        /// `Node` metrics stand alone; the others take a selector, `disk["/var"].used_percent`.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord, Hash)]
        pub enum Family { $($variant),* }

        impl Family {
            pub const ALL: [Family; [$($prefix),*].len()] = [$(Family::$variant),*];

            /// The word in front of the selector.
            #[must_use]
            pub const fn prefix(self) -> &'static str {
                match self { $(Family::$variant => $prefix),* }
            }

            const fn words(self) -> (&'static str, &'static str) {
                match self { $(Family::$variant => ($instance, $example)),* }
            }

            pub(crate) const fn selector(self) -> Selector {
                match self { $(Family::$variant => Selector::$selector),* }
            }
        }
    };
}

families! {
    Node = "", "", "", Nothing;
    Disk = "disk", "mount", "/var", Path;
    Network = "network", "interface", "eth0", Name;
    Port = "connections", "port", "443", Port;
    // Numbers that applications report of themselves; an instance is `CONTROL.NUMBER`, such as `api.inflight`.
    App = "app", "control", "api", Reported;
}

impl Family {
    /// What a selector chooses; `None` for the node.
    #[must_use]
    pub fn instance(self) -> Option<&'static str> {
        (self != Family::Node).then_some(self.words().0)
    }

    /// A selector as somebody would write it.
    pub(crate) const fn example(self) -> &'static str {
        self.words().1
    }
}
