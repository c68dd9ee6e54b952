//! A short name for a long text, the same in every build: FNV-1a, 64 bits (draft-eastlake-fnv). The standard library's hash
//! is not promised to stay, and a cryptographic one would be code that nothing else here maps.

const BASIS: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0100_0000_01b3;

pub fn of(text: &str) -> u64 {
    text.bytes().fold(BASIS, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(PRIME))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the draft lists them.
    #[test]
    fn known_values() {
        assert_eq!((of(""), of("a"), of("foobar")), (BASIS, 0xaf63_dc4c_8601_ec8c, 0x8594_4171_f739_67e8));
    }
}
