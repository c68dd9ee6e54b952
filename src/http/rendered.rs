//! What was made of the last publication, kept until the next: however many ask, each page is made once per tick.

use bytes::Bytes;

/// The pages that do not depend on who asks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(usize)]
pub enum Page {
    Status,
    Rules,
    Prometheus,
    OpenMetrics,
}

const PAGES: usize = Page::OpenMetrics as usize + 1;

#[derive(Debug, Default)]
pub struct Rendered {
    revision: u64,
    pages: [Option<Bytes>; PAGES],
}

impl Rendered {
    /// # Errors
    /// That of making it; nothing is kept then.
    pub fn page<E>(&mut self, revision: u64, page: Page, make: impl FnOnce() -> Result<String, E>) -> Result<Bytes, E> {
        if self.revision != revision {
            *self = Self { revision, ..Self::default() };
        }
        let kept = &mut self.pages[page as usize];
        match kept {
            Some(known) => Ok(known.clone()),
            None => {
                // Kept for long where nobody asks again: not with room for more.
                let text = make()?.into_boxed_str().into_boxed_bytes();
                Ok(kept.insert(Bytes::from(text)).clone())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_made_once_for_a_publication() {
        let (mut rendered, mut made) = (Rendered::default(), 0);
        for (revision, page, wanted) in [
            (1, Page::Status, 1),
            (1, Page::Status, 1),
            (1, Page::Rules, 2),
            (2, Page::Status, 3),
            (2, Page::Status, 3),
        ] {
            let make = || -> Result<String, ()> {
                made += 1;
                Ok(made.to_string())
            };
            assert!(rendered.page(revision, page, make).is_ok());
            assert_eq!(made, wanted);
        }
        assert_eq!(rendered.page(3, Page::Rules, || Err("no")), Err("no"));
        assert_eq!(rendered.page(3, Page::Rules, || Ok::<_, ()>("yes".to_owned())), Ok(Bytes::from_static(b"yes")));
    }
}
