//! What the settler sends in one call.

use super::{Arc, Attempt, OwnedSemaphorePermit};
use super::{
    Duration, Ended, Ending, ErrorCode, Held, Instant, JobError, Outlet, Settled, Settlement, VecDeque, Verdict,
};

/// Most outcomes and bytes of one call.
const ITEMS: usize = 100;
const BYTES: usize = 1 << 20;

/// What is left of an attempt until its outcome is acknowledged.
#[derive(Debug)]
pub(super) struct Receipt {
    pub(super) attempt: Arc<Attempt>,
    pub(super) task: String,
    pub(super) age: Duration,
    pub(super) outlet: Option<Arc<Outlet>>,
    /// When the settler got it.
    pub(super) since: Instant,
    pub(super) slot: OwnedSemaphorePermit,
}

/// One call: outcomes of one kind, and what is left of their attempts in the same order.
#[derive(Debug)]
pub(super) enum Batch {
    Settle(Vec<Settlement>, Vec<Receipt>),
    HandBack(Vec<Held>, Vec<Receipt>),
    Snooze(Held, Duration, JobError, Vec<Receipt>),
}

impl Batch {
    pub(super) fn receipts(&self) -> &[Receipt] {
        match self {
            Self::Settle(_, receipts) | Self::HandBack(_, receipts) | Self::Snooze(_, _, _, receipts) => receipts,
        }
    }

    pub(super) fn into_receipts(self) -> Vec<Receipt> {
        match self {
            Self::Settle(_, receipts) | Self::HandBack(_, receipts) | Self::Snooze(_, _, _, receipts) => receipts,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.receipts().len()
    }

    /// The error of the outcome at `place`.
    pub(super) fn code(&self, place: usize) -> Option<ErrorCode> {
        match self {
            Self::Settle(settlements, _) => match &settlements.get(place)?.verdict {
                Verdict::Completed(_) => None,
                Verdict::Failed(error) | Verdict::Retry(error, _) | Verdict::Cancelled(error) => Some(error.code),
            },
            // They end a job only where a caller asked for its end.
            Self::HandBack(..) | Self::Snooze(..) => Some(ErrorCode::Cancelled),
        }
    }

    /// Takes out what was not settled because the log of its chunks ends too soon, with the number of its last one.
    pub(super) fn without_behind(self, answers: &[Settled]) -> (Self, Vec<(Ended, u64)>) {
        let Self::Settle(settlements, receipts) = self else { return (self, Vec::new()) };
        if !answers.iter().any(|answer| matches!(answer, Settled::Behind(_))) {
            return (Self::Settle(settlements, receipts), Vec::new());
        }
        let (mut done, mut behind) = ((Vec::new(), Vec::new()), Vec::new());
        for ((settlement, receipt), answer) in settlements.into_iter().zip(receipts).zip(answers) {
            if let Settled::Behind(last) = answer {
                let (Receipt { attempt, task, age, outlet, slot, .. }, ending) = (receipt, Ending::Settle(settlement));
                behind.push((Ended { attempt, ending, task, age, outlet, slot }, *last));
            } else {
                done.0.push(settlement);
                done.1.push(receipt);
            }
        }
        (Self::Settle(done.0, done.1), behind)
    }

    /// The same outcomes, each in a call of its own.
    pub(super) fn split(self) -> Vec<Self> {
        match self {
            Self::Settle(settlements, receipts) => {
                let pairs = settlements.into_iter().zip(receipts);
                pairs.map(|(settlement, receipt)| Self::Settle(vec![settlement], vec![receipt])).collect()
            }
            Self::HandBack(held, receipts) => {
                let pairs = held.into_iter().zip(receipts);
                pairs.map(|(held, receipt)| Self::HandBack(vec![held], vec![receipt])).collect()
            }
            Self::Snooze(..) => vec![self],
        }
    }
}

/// Outcomes that wait for a call, oldest first.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    waiting: VecDeque<(Instant, Ended)>,
    bytes: usize,
}

impl Gathered {
    pub(super) fn push(&mut self, ended: Ended) {
        self.bytes += bytes(&ended);
        self.waiting.push_back((Instant::now(), ended));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Whether they fill a call.
    pub(super) fn is_full(&self) -> bool {
        self.waiting.len() >= ITEMS || self.bytes >= BYTES
    }

    /// Takes what fits into one call: from the oldest on, as long as they are of its kind. Not empty.
    pub(super) fn take(&mut self) -> Batch {
        let (mut settlements, mut held, mut receipts, mut size) = (Vec::new(), Vec::new(), Vec::new(), 0);
        while let Some((_, next)) = self.waiting.front() {
            let fits = receipts.is_empty() || (receipts.len() < ITEMS && size + bytes(next) <= BYTES);
            let same_kind = match next.ending {
                Ending::Settle(_) => held.is_empty(),
                Ending::HandBack => settlements.is_empty(),
                Ending::Snooze(..) => receipts.is_empty(),
            };
            if !(fits && same_kind) {
                break;
            }
            let Some((since, ended)) = self.waiting.pop_front() else { break };
            size += bytes(&ended);
            self.bytes -= bytes(&ended);
            let Ended { attempt, ending, task, age, outlet, slot } = ended;
            let name = attempt.held.clone();
            receipts.push(Receipt { attempt, task, age, outlet, since, slot });
            match ending {
                Ending::Settle(settlement) => settlements.push(settlement),
                Ending::HandBack => held.push(name),
                Ending::Snooze(after, error) => return Batch::Snooze(name, after, error, receipts),
            }
        }
        if held.is_empty() { Batch::Settle(settlements, receipts) } else { Batch::HandBack(held, receipts) }
    }
}

fn bytes(ended: &Ended) -> usize {
    let Ending::Settle(settlement) = &ended.ending else { return 0 };
    let result = match &settlement.verdict {
        Verdict::Completed(result) => result.get().len(),
        Verdict::Failed(error) | Verdict::Retry(error, _) | Verdict::Cancelled(error) => error.message.len(),
    };
    result + settlement.partial.as_ref().map_or(0, |partial| partial.get().len())
}
