//! Which of several things a request is about: all where it does not say, else those that it names. A list that names
//! nothing is a mistake of whoever made it, and never means all.

use serde::de::{Deserialize, Deserializer, Error};

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Chosen<T> {
    #[default]
    All,
    These(Vec<T>),
}

impl<T> Chosen<T> {
    pub const fn is_all(&self) -> bool {
        matches!(self, Self::All)
    }

    /// Nothing where it is all.
    pub fn named(&self) -> &[T] {
        match self {
            Self::All => &[],
            Self::These(these) => these,
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Chosen<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let these = Vec::deserialize(deserializer)?;
        if these.is_empty() {
            return Err(D::Error::custom("the list names none; leave it out where all are meant"));
        }
        Ok(Self::These(these))
    }
}
