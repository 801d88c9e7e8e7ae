//! Ports for what comes back at the same address, or is told its port.

use std::fs::{File, create_dir_all};
use std::net::TcpListener;

use rand::RngExt as _;

/// Where no system takes ports from for a connection, or for who asks for any: Linux begins at 32768.
const RANGE: std::ops::Range<u16> = 10_000..32_768;

/// A port that no other test has for as long as this lives, whether somebody listens on it or not. One that the system chose
/// could be another's by the time a killed server comes back, and its clients would talk to that.
#[derive(Debug)]
pub(crate) struct Port {
    number: u16,
    /// Locked; the system lets go of it with the process, however that ends.
    _lock: File,
}

impl Port {
    /// Takes a free one.
    pub(crate) fn reserve() -> Self {
        let locks = std::env::temp_dir().join("overshot-test-ports");
        create_dir_all(&locks).expect("a folder for temporary files");
        for _ in 0..1000 {
            let number = rand::rng().random_range(RANGE);
            let lock = File::create(locks.join(number.to_string())).expect("the folder is ours");
            if lock.try_lock().is_ok() && TcpListener::bind(("127.0.0.1", number)).is_ok() {
                return Self { number, _lock: lock };
            }
        }
        panic!("no free port from {RANGE:?}")
    }

    pub(crate) fn number(&self) -> u16 {
        self.number
    }
}
