//! Scratch: the buffers that one image after another is prepared in.
//!
//! A fresh buffer of some megabytes costs a page fault for each 4 KiB of it, a tenth of the time
//! that a small photograph takes. What stands in the buffers is the steps' business.
//! Invariant: between two images it holds no more than [`MAX_KEPT`] a buffer (of what the resizer
//! makes for itself, [`UNMAPPED_AT_ONCE`]), and a buffer that is taken holds nothing of the image
//! before.

use fast_image_resize::Resizer;

/// A small photograph in four bytes a pixel. Larger ones pay for their own pages: a tenth of the time
/// matters less there than uncounted memory.
const MAX_KEPT: usize = 10 * 1024 * 1024;

/// glibc keeps blocks of up to 32 MiB for itself once one was freed; what is larger goes back to the
/// system at once. Untouched pages cost nothing.
const UNMAPPED_AT_ONCE: usize = 33 * 1024 * 1024;

/// What stays from one image to the next.
#[derive(Default)]
pub struct Scratch {
    pub(super) decoded: Vec<u8>,
    pub(super) shrunk: Vec<u8>,
    pub(super) encoded: Vec<u8>,
    pub(super) resizer: Resizer,
}

impl Scratch {
    /// Frees what is too large to keep.
    pub(super) fn trim(&mut self) {
        for buffer in [&mut self.decoded, &mut self.shrunk, &mut self.encoded] {
            if buffer.capacity() > MAX_KEPT {
                *buffer = Vec::new();
            }
        }
        // It makes its own: freed and made again they would stay with glibc as well.
        if self.resizer.size_of_internal_buffers() > UNMAPPED_AT_ONCE {
            self.resizer.reset_internal_buffers();
        }
    }
}

/// `n_bytes` zeros in the memory of this buffer, which is left empty.
pub(super) fn zeroed(buffer: &mut Vec<u8>, n_bytes: usize) -> Vec<u8> {
    if buffer.capacity() < n_bytes {
        // The system's fresh pages are zeros already.
        *buffer = Vec::new();
        let capacity = if n_bytes > MAX_KEPT { n_bytes.max(UNMAPPED_AT_ONCE) } else { n_bytes };
        let mut fresh = vec![0; capacity];
        fresh.truncate(n_bytes);
        return fresh;
    }
    let mut taken = std::mem::take(buffer);
    taken.clear();
    taken.resize(n_bytes, 0);
    taken
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_used_again_and_holds_nothing_of_the_image_before() {
        let mut buffer = vec![7; 100];
        let address = buffer.as_ptr();
        let taken = zeroed(&mut buffer, 60);
        assert_eq!((taken.as_ptr(), taken), (address, vec![0; 60]));
        assert_eq!(zeroed(&mut vec![7; 10], 20), [0; 20]);
    }

    #[test]
    fn what_a_large_image_took_is_not_kept() {
        let mut scratch = Scratch { decoded: vec![0; MAX_KEPT + 1], ..Scratch::default() };
        scratch.trim();
        assert_eq!(scratch.decoded.capacity(), 0);
    }
}
