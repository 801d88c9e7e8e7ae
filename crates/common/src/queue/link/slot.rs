//! Which slot of a cluster a key belongs to, and which key a command is about.

use redis::{Arg, Cmd};

/// How many slots a cluster has.
const SLOTS: u16 = 16_384;

/// The slot of a key: that of its hash tag, where it has one.
pub(crate) fn slot(key: &[u8]) -> u16 {
    crc16(tag(key)) % SLOTS
}

/// The slot of the key that a command is about; `None` where any node may answer.
pub(crate) fn slot_of(command: &Cmd) -> Option<u16> {
    let mut args = command.args_iter().map(|arg| match arg {
        Arg::Simple(text) => text,
        _ => b"",
    });
    let key = match args.next()? {
        b"EVAL" | b"EVALSHA" => args.nth(2),
        b"PUBSUB" => args.nth(1),
        b"PING" | b"INFO" | b"CONFIG" | b"TIME" => None,
        _ => args.next(),
    };
    key.map(slot)
}

/// What stands between the first brace and the next closing one, unless it is empty; else all of the key.
fn tag(key: &[u8]) -> &[u8] {
    let inner = || {
        let open = key.iter().position(|byte| *byte == b'{')? + 1;
        let close = key[open..].iter().position(|byte| *byte == b'}')?;
        Some(&key[open..open + close])
    };
    inner().filter(|tag| !tag.is_empty()).unwrap_or(key)
}

/// CRC-16/XMODEM, which the cluster specification names.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _| (crc << 1) ^ if crc & 0x8000 == 0 { 0 } else { 0x1021 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_the_slot_that_redis_says() {
        // The specification's check value, then CLUSTER KEYSLOT.
        assert_eq!(crc16(b"123456789"), 0x31c3);
        assert_eq!((slot(b"foo"), slot(b"overshot:{chat.0}"), slot(b"{}x")), (12_182, slot(b"chat.0"), 10_595));
        assert_eq!(slot(b"overshot:{chat.0}:j:x"), slot(b"overshot:{chat.0}:bell"));
    }

    #[test]
    fn a_command_goes_where_its_first_key_is() {
        let of = |parts: &[&str]| {
            let mut command = redis::cmd(parts[0]);
            command.arg(&parts[1..]);
            slot_of(&command)
        };
        let expected = Some(slot(b"k"));
        assert_eq!([of(&["GET", "k"]), of(&["EVALSHA", "sha", "1", "k", "a"])], [expected, expected]);
        assert_eq!([of(&["PUBLISH", "k", "text"]), of(&["PUBSUB", "NUMSUB", "k"])], [expected, expected]);
        assert_eq!([of(&["PING"]), of(&["CONFIG", "GET", "save"])], [None, None]);
    }
}
