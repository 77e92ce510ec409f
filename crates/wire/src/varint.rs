//! Variable-length integers: unsigned ones of the flexible message versions, zigzag ones inside record batches.

use bytes::BufMut;

/// The longest encoding of a 64-bit value.
const BYTES_MAX: usize = 10;

/// Takes an unsigned variable-length integer of up to 64 bits off the front of `input`. `None` when the input ends
/// early or the encoding is longer than any 64-bit value needs.
pub fn take_unsigned(input: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for (index, &byte) in input.iter().take(BYTES_MAX).enumerate() {
        value |= u64::from(byte & 0x7f).checked_shl(7 * index as u32)?;
        if byte & 0x80 == 0 {
            *input = &input[index + 1..];
            return Some(value);
        }
    }
    None
}

/// The longest encoding of a 32-bit value.
const BYTES_MAX_32: usize = 5;

/// Takes an unsigned variable-length integer of up to 32 bits off the front of `input`: a length or a tag of the
/// flexible message versions. `None` also when the encoding is longer than any such value needs, with zeros at its
/// end: decoders differ in where such a one ends, so nobody may be told that it is sound.
pub fn take_unsigned_32(input: &mut &[u8]) -> Option<u32> {
    let mut rest = *input;
    let value = u32::try_from(take_unsigned(&mut rest)?).ok()?;
    if input.len() - rest.len() > BYTES_MAX_32 {
        return None;
    }
    *input = rest;
    Some(value)
}

/// Takes a zigzag integer of up to 64 bits (Kafka's varlong) off the front of `input`.
pub fn take_long(input: &mut &[u8]) -> Option<i64> {
    let raw = take_unsigned(input)?;
    Some((raw >> 1) as i64 ^ -((raw & 1) as i64))
}

/// Takes a zigzag integer of up to 32 bits (Kafka's varint) off the front of `input`.
pub fn take_int(input: &mut &[u8]) -> Option<i32> {
    take_long(input)?.try_into().ok()
}

/// Appends an unsigned variable-length integer.
pub fn put_unsigned(out: &mut impl BufMut, value: u64) {
    let mut bytes = [0u8; BYTES_MAX];
    let length = write_unsigned(&mut bytes, value);
    out.put_slice(&bytes[..length]);
}

/// Writes an unsigned variable-length integer to the front of `out`, which has room for it; returns its length.
fn write_unsigned(out: &mut [u8], mut value: u64) -> usize {
    let mut length = 0;
    while value > 0x7f {
        out[length] = (value & 0x7f) as u8 | 0x80;
        value >>= 7;
        length += 1;
    }
    out[length] = value as u8;
    length + 1
}

/// Writes a zigzag integer to the front of `out`, which has room for it; returns its length.
pub(crate) fn write_long(out: &mut [u8], value: i64) -> usize {
    write_unsigned(out, zigzag(value))
}

/// Appends a zigzag integer (Kafka's varint and varlong have the same encoding).
pub fn put_long(out: &mut impl BufMut, value: i64) {
    put_unsigned(out, zigzag(value));
}

/// Length of the encoding of an unsigned value, in bytes.
#[must_use]
pub const fn unsigned_bytes(value: u64) -> usize {
    // The number of bits divided by 7 and rounded up, without dividing.
    let bits = 64 - (value | 1).leading_zeros() as usize;
    (bits * 9 + 64) / 64
}

/// Length of the zigzag encoding of a value, in bytes.
#[must_use]
pub const fn long_bytes(value: i64) -> usize {
    unsigned_bytes(zigzag(value))
}

const fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn varint_round_trips_with_the_length_it_promised(value: i64) {
            let mut bytes = Vec::new();
            put_long(&mut bytes, value);
            prop_assert_eq!(bytes.len(), long_bytes(value));
            let mut input = &bytes[..];
            prop_assert_eq!(take_long(&mut input), Some(value));
            prop_assert!(input.is_empty());
        }

        #[test]
        fn varint_from_arbitrary_bytes_never_panics(bytes: Vec<u8>) {
            let mut input = &bytes[..];
            let _ = take_int(&mut input);
            let _ = take_unsigned(&mut input);
        }
    }

    #[test]
    fn varint_without_an_end_is_refused() {
        assert_eq!(take_unsigned(&mut &[0xff; 11][..]), None);
        assert_eq!(take_unsigned(&mut &[0x80][..]), None);
    }

    #[test]
    fn varint_of_32_bits_is_refused_when_it_is_longer_than_one_can_be() {
        assert_eq!(take_unsigned_32(&mut &[0xff, 0xff, 0xff, 0xff, 0x0f][..]), Some(u32::MAX));
        assert_eq!(take_unsigned_32(&mut &[0x81, 0x80, 0x80, 0x80, 0x00][..]), Some(1));
        assert_eq!(take_unsigned_32(&mut &[0x81, 0x80, 0x80, 0x80, 0x80, 0x00][..]), None);
        assert_eq!(take_unsigned_32(&mut &[0x80, 0x80, 0x80, 0x80, 0x10][..]), None, "2³² does not fit");
    }
}
