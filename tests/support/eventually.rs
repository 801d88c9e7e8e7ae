//! Waiting for a condition without a fixed sleep.

/// Asks again and again until the condition (which may `.await`) holds, or panics after `within` with what was asked.
#[macro_export]
macro_rules! assert_eventually {
    ($condition:expr) => {
        $crate::assert_eventually!($condition, $crate::PATIENCE)
    };
    ($condition:expr, $within:expr) => {
        $crate::assert_eventually!($condition, $within, "")
    };
    ($condition:expr, $within:expr, $($message:tt)+) => {{
        let start = std::time::Instant::now();
        while !$condition {
            assert!(
                start.elapsed() < $within,
                "not within {:?}: {} {}",
                $within,
                stringify!($condition),
                format_args!($($message)+)
            );
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }};
}
