//! Unwind tables: a tenth of the binary, needed only to print the stack of a panic. They are dropped after everything
//! is locked; the kernel reads them from the file again if there is a panic.

use std::ffi::{c_int, c_void};
use std::mem::size_of;
use std::ptr;

use libc::{PT_GNU_EH_FRAME, PT_LOAD, dl_iterate_phdr, dl_phdr_info, size_t};

/// Addresses of whole pages: from the first one behind the start of the tables to the end of their segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Pages {
    start: usize,
    end: usize,
}

/// Does nothing where the program has no such tables, or the kernel refuses: then they stay locked.
pub fn let_go() {
    let mut pages = Pages::default();
    // SAFETY: `find` is given a pointer to `pages`, which outlives the call.
    unsafe { dl_iterate_phdr(Some(find), (&raw mut pages).cast()) };
    if pages.end <= pages.start {
        return;
    }
    let (start, length) = (ptr::without_provenance_mut::<c_void>(pages.start), pages.end - pages.start);
    // SAFETY: the pages are a read-only mapping of a file, which was never written: letting go of them loses nothing.
    unsafe {
        if libc::munlock(start, length) == 0 {
            libc::madvise(start, length, libc::MADV_DONTNEED);
        }
    }
}

/// Called for each loaded object; the program itself comes first, and is the only one that is looked at.
unsafe extern "C" fn find(info: *mut dl_phdr_info, size: size_t, pages: *mut c_void) -> c_int {
    if size < size_of::<usize>() * 3 {
        return 1;
    }
    // SAFETY: the loader gives a valid object, and `let_go` a valid place for the answer.
    unsafe {
        let headers = std::slice::from_raw_parts((*info).dlpi_phdr, usize::from((*info).dlpi_phnum));
        let base = (*info).dlpi_addr as usize;
        let tables = headers.iter().find(|header| header.p_type == PT_GNU_EH_FRAME);
        let found = tables.and_then(|tables| {
            let holds = |header: &&libc::Elf64_Phdr| {
                let segment = header.p_vaddr..header.p_vaddr + header.p_memsz;
                header.p_type == PT_LOAD && header.p_flags & libc::PF_W == 0 && segment.contains(&tables.p_vaddr)
            };
            let segment = headers.iter().find(holds)?;
            Some(whole_pages(
                base + tables.p_vaddr as usize,
                base + (segment.p_vaddr + segment.p_memsz) as usize,
                page_size(),
            ))
        });
        if let Some(found) = found {
            *pages.cast::<Pages>() = found;
        }
    }
    1
}

fn page_size() -> usize {
    // SAFETY: asks for a constant.
    usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096)
}

fn whole_pages(start: usize, end: usize, page: usize) -> Pages {
    Pages { start: start.next_multiple_of(page), end: end / page * page }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_pages_are_let_go_of() {
        assert_eq!(whole_pages(4097, 20_000, 4096), Pages { start: 8192, end: 16_384 });
        let none = whole_pages(4097, 8000, 4096);
        assert!(none.end <= none.start);
    }

    #[test]
    fn a_panic_can_still_be_caught_and_shown() {
        let_go();
        assert!(std::panic::catch_unwind(|| panic!("on purpose")).is_err());
        assert!(!std::backtrace::Backtrace::force_capture().to_string().is_empty());
    }
}
