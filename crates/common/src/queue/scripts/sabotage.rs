//! Guards taken out of the scripts, one at a time, so that a test sees that their absence is noticed.
//!
//! Only with the feature `sabotage`, which no program has but the examples of the chaos crate. An edit that does not find
//! its text panics: whoever changes a guard changes it here as well.

/// A guard that is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sabotage {
    /// Nobody compares grants.
    NoFencing,
    /// Grants count from 1 and have no nonce that counts.
    CountedGrants,
    /// The streams of jobs have a cap.
    TrimmedStreams,
    /// A promotion reads in one call what it moves in the next, and does not look again.
    SplitPromotion,
    /// The reaper judges at once after an outage.
    NoWatermark,
    /// Whoever asks renews a lease.
    RenewalByAnyone,
}

/// What stands in a script, and what stands there instead. `*`: in the fragments.
type Edit = (&'static str, &'static str, &'static str);

const NUMBER_OF_BOTH: &str = "string.match(job[GRANT], '^%d+') ~= string.match(grant, '^%d+')";

impl Sabotage {
    /// Every one.
    pub const ALL: &[Self] = &[
        Self::NoFencing,
        Self::CountedGrants,
        Self::TrimmedStreams,
        Self::SplitPromotion,
        Self::NoWatermark,
        Self::RenewalByAnyone,
    ];

    /// The one that this process was started with, by its name in `OVERSHOT_SABOTAGE`.
    ///
    /// # Panics
    /// When there is no such guard: a run without the sabotage that was asked for proves nothing.
    pub fn of_program() -> Option<Self> {
        let name = std::env::var("OVERSHOT_SABOTAGE").ok()?;
        let found = Self::ALL.iter().find(|sabotage| format!("{sabotage:?}") == name);
        Some(*found.unwrap_or_else(|| panic!("OVERSHOT_SABOTAGE: no guard is called {name:?}")))
    }

    /// Whether a worker goes on with jobs that it lost: it stops before the guard in Redis has to act, so who wants to see
    /// what that one is for takes both out.
    pub fn workers_go_on(self) -> bool {
        matches!(self, Self::NoFencing | Self::RenewalByAnyone)
    }

    fn edits(self) -> &'static [Edit] {
        match self {
            Self::NoFencing => &[
                ("settle", "job[GRANT] ~= grant", "false"),
                ("settle", "held ~= grant", "false"),
                ("renew", "job[GRANT] ~= grant", "false"),
                ("publish", "job[GRANT] == grant", "true"),
            ],
            Self::CountedGrants => &[
                ("claim", "local first_grant = text(now) .. '.'", "local first_grant = '1.'"),
                (
                    "claim",
                    "math.max(tonumber(string.match(job[GRANT], '^%d+')) + 1, now)",
                    "string.match(job[GRANT], '^%d+') + 1",
                ),
                ("settle", "job[GRANT] ~= grant", NUMBER_OF_BOTH),
                ("settle", "held ~= grant", "string.match(held, '^%d+') ~= string.match(grant, '^%d+')"),
                ("renew", "job[GRANT] ~= grant", NUMBER_OF_BOTH),
            ],
            Self::TrimmedStreams => &[
                ("*", "'XADD', base .. LANES[lane], '*'", "'XADD', base .. LANES[lane], 'MAXLEN', '10', '*'"),
                ("enqueue_plain", "'XADD', stream, '*'", "'XADD', stream, 'MAXLEN', '10', '*'"),
            ],
            Self::SplitPromotion => &[
                (
                    "promote",
                    "local due = redis.call('ZRANGEBYSCORE', base .. ':due', '-inf', now, 'LIMIT', 0, ARGV[1])",
                    "local due = redis.call('LRANGE', base .. ':split', 0, -1)
local read = redis.call('ZRANGEBYSCORE', base .. ':due', '-inf', now, 'LIMIT', 0, ARGV[1])
if #read > 0 then
  redis.call('DEL', base .. ':split')
  redis.call('RPUSH', base .. ':split', unpack(read))
end",
                ),
                (
                    "promote",
                    "if job and job[TICKET] == '' and (job[STATUS] == SCHEDULED or job[STATUS] == RETRYING) then",
                    "if job then",
                ),
            ],
            Self::NoWatermark => &[("reclaim", "if since > gap or since < 0 or", "if false and")],
            Self::RenewalByAnyone => &[("renew", "job[GRANT] ~= grant", "false")],
        }
    }

    /// The source of a script, or of the fragments, without the guard.
    pub(super) fn apply(self, name: &str, mut source: String) -> String {
        for (script, from, to) in self.edits().iter().filter(|(script, ..)| *script == name) {
            assert_eq!(source.matches(from).count(), 1, "{self:?} looks for {from:?} in {script}.lua");
            source = source.replace(from, to);
        }
        source
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Clock, Scripts, fingerprint};
    use super::*;

    #[test]
    fn every_sabotage_changes_a_script() {
        let whole = fingerprint(&Scripts::new(Clock::Test, false));
        for sabotage in Sabotage::ALL {
            assert_ne!(fingerprint(&Scripts::new(Clock::Sabotaged(*sabotage), false)), whole, "{sabotage:?}");
        }
    }
}
