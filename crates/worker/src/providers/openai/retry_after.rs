//! The `Retry-After` header: how long a provider asks to be left alone.

use std::time::Duration;

use jiff::Timestamp;
use jiff::fmt::rfc2822;
use reqwest::header::{DATE, HeaderMap, HeaderName, RETRY_AFTER};

const SHORTEST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(600);

/// Reads seconds or an HTTP date, from 100 ms to 10 min. A date is judged by the server's own clock, where it tells it.
pub(in crate::providers) fn read(headers: &HeaderMap) -> Option<Duration> {
    let text = text(headers, RETRY_AFTER)?;
    let after = match text.parse::<f64>() {
        Ok(seconds) if seconds.is_nan() => return None,
        Ok(seconds) => Duration::from_secs_f64(seconds.clamp(0.0, LONGEST.as_secs_f64())),
        Err(_) => {
            let now = self::text(headers, DATE).and_then(date).unwrap_or_else(Timestamp::now);
            Duration::try_from(date(text)?.duration_since(now)).unwrap_or_default()
        }
    };
    Some(after.clamp(SHORTEST, LONGEST))
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}

fn date(text: &str) -> Option<Timestamp> {
    Some(rfc2822::parse(text).ok()?.timestamp())
}

#[cfg(test)]
mod tests {
    use super::{HeaderMap, read};

    #[track_caller]
    fn check(retry_after: &str, expected_ms: Option<u128>) {
        let mut headers = HeaderMap::new();
        headers.insert("retry-after", retry_after.parse().unwrap());
        headers.insert("date", "Sun, 06 Nov 1994 08:49:37 GMT".parse().unwrap());
        assert_eq!(read(&headers).map(|after| after.as_millis()), expected_ms, "{retry_after}");
    }

    #[test]
    fn seconds_and_dates_are_read_and_clamped() {
        check("7", Some(7_000));
        check("0.25", Some(250));
        check("0", Some(100));
        check("-3", Some(100));
        check("86400", Some(600_000));
        check("inf", Some(600_000));
        check("Sun, 06 Nov 1994 08:49:42 GMT", Some(5_000));
        check("Sun, 06 Nov 1994 08:49:00 GMT", Some(100));
        check("NaN", None);
        check("soon", None);
    }
}
