//! How people write sizes: `256MiB`.
//!
//! Pure. Invariant: nothing is guessed: a bare number is refused.

/// `256MiB`, `50MB`, `64KiB`, `1000B`.
pub(super) fn size(text: &str) -> Option<u64> {
    let n_digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let number: u64 = text[..n_digits].parse().ok()?;
    let factor = match text[n_digits..].trim() {
        "B" => 1,
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    number.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_know_both_kinds_of_kilo() {
        assert_eq!(size("256MiB"), Some(256 << 20));
        assert_eq!(size("50MB"), Some(50_000_000));
        assert_eq!(size("1 GiB"), Some(1 << 30));
        for text in ["", "256", "MiB", "1.5GiB", "-1B", "99999999999GiB"] {
            assert_eq!(size(text), None, "{text}");
        }
    }
}
