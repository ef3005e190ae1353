//! Comparing what is held of one maker with what others hold, and fetching what is lacking.
//!
//! A maker's head says what there is; the nodes that are asked in turn show its parts: the one that brought the head, some neighbours, at
//! last the maker. What one of them shows is good when it adds up to the root that the maker signed, and useful anyway: a list that does
//! not may name records that nobody else has. Nothing is removed because it is not in a list.

use super::{
    Asked, Core, QuestionId, Root, Stamp, Timer, Version, Via,
    index::{Summary, bucket_of, summary_of},
    limits::{
        FETCHED_A_JOB_MAX, JOB_PATIENCE, JOBS_MAX, JOBS_WAITING_MAX, NAMED_A_JOB_MAX, QUESTIONS_A_JOB_MAX,
        RECORDS_A_QUESTION_MAX, SOURCES_A_JOB_MAX,
    },
    talk::{Answer, Carried, News, Question},
};
use crate::{
    bep44::Target,
    identity::ClientId,
    time::{Now, UnixMillis},
};
use rand::RngExt;
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    ops::RangeInclusive,
};

/// What a question of a job is for.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Part {
    Maker,
    Bucket(u8),
    Records(Vec<Target>),
}

/// A comparison of one maker's records, with one source after the other.
#[derive(Debug)]
struct Job {
    at: UnixMillis,
    /// What the maker's head says, and the head's counter. `None`: another node holds something else, whatever a head says.
    signed: Option<(Root, u64)>,
    sources: VecDeque<ClientId>,
    source: Option<ClientId>,
    /// Whether what the source shows adds up to the signed root.
    adds_up: bool,
    /// The source's hashes of buckets that differ from ours, until it has listed them.
    buckets: BTreeMap<u8, Root>,
    /// Those of them that it was not asked for yet.
    unasked: BTreeSet<u8>,
    /// What it lists and we lacked then.
    listed: BTreeMap<Target, Version>,
    /// Those of it that it was not asked for yet.
    lacking: BTreeSet<Target>,
    questions: BTreeMap<QuestionId, Part>,
    /// What was delivered and is being checked.
    arriving: BTreeSet<Target>,
    /// What came, from whichever source, as far as it may be named.
    found: BTreeSet<Target>,
    /// What is held and the source does not list, as far as it may be named.
    unlisted: BTreeSet<Target>,
    progress_at: Now,
}

/// Jobs of one maker that have not begun: what its head asks for comes first, since what comes of it is known to be all.
#[derive(Clone, Debug, Default)]
struct Waiting {
    /// Who brought the head, when it asks for something.
    head: Option<Vec<ClientId>>,
    hint: Option<Hint>,
}

/// What another node held at some time, whatever the head says. Only that node is asked for it.
#[derive(Clone, Copy, Debug)]
struct Hint {
    from: ClientId,
    at: UnixMillis,
    root: Root,
}

#[derive(Debug, Default)]
pub(super) struct Jobs {
    running: BTreeMap<ClientId, Job>,
    waiting: BTreeMap<ClientId, Waiting>,
    /// Who brought a head whose records gossip may still bring.
    sources: BTreeMap<ClientId, ClientId>,
}

impl Jobs {
    /// Whether this maker's records are being compared, or will be.
    pub(super) fn is_about(&self, maker: &ClientId) -> bool {
        self.running.contains_key(maker) || self.waiting.contains_key(maker)
    }

    /// Whether nothing is being compared, and nothing will be.
    pub(super) fn is_idle(&self) -> bool {
        self.running.is_empty() && self.waiting.is_empty()
    }

    pub(super) fn remember_source(&mut self, maker: ClientId, from: Option<ClientId>) {
        if let Some(from) = from {
            self.sources.insert(maker, from);
        }
    }
}

impl Core {
    /// Has a maker's records compared with what its head says.
    pub(super) fn queue_job(&mut self, maker: ClientId, from: Option<ClientId>) {
        let from = self.jobs.sources.remove(&maker).or(from);
        let waiting = self.jobs.waiting.entry(maker).or_default();
        waiting.head.get_or_insert_default().extend(from);
    }

    /// Has a maker's records compared with what `from` held at that time, unless all of it has come until then.
    pub(super) fn queue_hint(&mut self, maker: ClientId, from: ClientId, at: UnixMillis, root: Root) {
        if self.jobs.waiting.len() >= JOBS_WAITING_MAX && !self.jobs.waiting.contains_key(&maker) {
            self.counters.over_jobs += 1;
        } else if !cfg!(mutant = "replica_asks_only_what_heads_say") {
            let hint = &mut self.jobs.waiting.entry(maker).or_default().hint;
            // What was held later is more.
            if hint.is_none_or(|hint| hint.at < at) {
                *hint = Some(Hint { from, at, root });
            }
        }
    }

    pub(super) fn start_jobs(&mut self) {
        while self.jobs.running.len() < JOBS_MAX {
            let next = self.jobs.waiting.keys().find(|maker| !self.jobs.running.contains_key(maker)).copied();
            let Some(maker) = next else { return };
            let Some(mut waiting) = self.jobs.waiting.remove(&maker) else { return };
            if let Some(sources) = waiting.head.take() {
                if waiting.hint.is_some() {
                    self.jobs.waiting.insert(maker, waiting);
                }
                self.start_signed(maker, sources);
            } else if let Some(Hint { from, at, root }) = waiting.hint
                && !self.holds_all(&maker, at, root)
            {
                self.start_job(maker, at, None, [from].into());
            }
        }
    }

    fn start_signed(&mut self, maker: ClientId, sources: Vec<ClientId>) {
        if let Some((at, signed)) = self.makers.head(&maker).map(|head| (head.at, (head.root, head.counter)))
        {
            let sources = self.sources_of(maker, sources);
            self.start_job(maker, at, Some(signed), sources);
        }
    }

    fn start_job(
        &mut self,
        maker: ClientId,
        at: UnixMillis,
        signed: Option<(Root, u64)>,
        sources: VecDeque<ClientId>,
    ) {
        self.counters.jobs += 1;
        let job = Job {
            at,
            signed,
            sources,
            source: None,
            adds_up: false,
            buckets: BTreeMap::new(),
            unasked: BTreeSet::new(),
            listed: BTreeMap::new(),
            lacking: BTreeSet::new(),
            questions: BTreeMap::new(),
            arriving: BTreeSet::new(),
            found: BTreeSet::new(),
            unlisted: BTreeSet::new(),
            progress_at: self.now,
        };
        self.jobs.running.insert(maker, job);
        self.timers.set(self.now.plus(JOB_PATIENCE), Timer::JobLate(maker));
        self.work(maker);
    }

    /// Who brought it, neighbours in random order, the maker.
    fn sources_of(&mut self, maker: ClientId, first: Vec<ClientId>) -> VecDeque<ClientId> {
        let mut sources: VecDeque<ClientId> = VecDeque::new();
        let mut neighbours: Vec<ClientId> = self.neighbours.ids().collect();
        while !neighbours.is_empty() {
            sources.push_back(neighbours.swap_remove(self.rng.random_range(0..neighbours.len())));
        }
        for from in first {
            sources.push_front(from);
        }
        let mut seen = BTreeSet::new();
        sources.retain(|source| *source != maker && *source != self.me && seen.insert(*source));
        sources.truncate(SOURCES_A_JOB_MAX - 1);
        sources.push_back(maker);
        sources
    }

    /// Goes on with a job as far as it goes without an answer.
    fn work(&mut self, maker: ClientId) {
        loop {
            let Some(mut job) = self.jobs.running.remove(&maker) else { return };
            let shown = job.adds_up && job.is_idle() && self.came(&job.listed);
            if let Some((root, counter)) = job.signed
                && (shown || self.holds_all(&maker, job.at, root))
            {
                self.makers.is_held(&maker, counter, self.now);
                if shown {
                    job.found.append(&mut job.unlisted);
                }
                self.name_found(maker, &job);
                return self.drop_job(&job);
            }
            if job.source.is_some() && !job.is_idle() {
                self.ask_on(maker, &mut job);
                self.jobs.running.insert(maker, job);
                return;
            }
            // The next one, if there is one.
            let Some(source) = job.sources.pop_front() else {
                self.counters.jobs_in_vain += u64::from(job.signed.is_some());
                if job.signed.is_none() && !cfg!(mutant = "replica_compares_one_way") {
                    // It works both ways: what the other node does not hold, it would only find if it asked here.
                    job.found.append(&mut job.unlisted);
                }
                self.name_found(maker, &job);
                return self.drop_job(&job);
            };
            job.begin(source, self.now);
            if let Some(id) = self.ask(source, Question::Maker(maker, job.at), Asked::Job(maker)) {
                job.questions.insert(id, Part::Maker);
            }
            self.jobs.running.insert(maker, job);
        }
    }

    /// Tells the neighbours what was found and what they may not find themselves. What no head counts, nobody else will ask for: the
    /// maker may have lost it with its store, and must hear of it. And what a head counts but its maker withholds, few others may have.
    /// A node that has just come finds much that is no news: it is quiet.
    fn name_found(&mut self, maker: ClientId, job: &Job) {
        let counted_until = match job.signed {
            Some(_) if self.makers.behind() > JOBS_MAX => return,
            Some(_) => None,
            None => self.counted_until(&maker),
        };
        self.name(job.found.iter().copied(), counted_until);
    }

    /// Names what is held of makers that the other node does not list at all, as far as no head says it.
    pub(super) fn name_unlisted(&mut self, makers: impl Iterator<Item = ClientId>, at: UnixMillis) {
        let mut room = NAMED_A_JOB_MAX;
        for maker in makers {
            let counted_until = self.counted_until(&maker);
            let held = self.index.stamps(&maker, 0..=u8::MAX, at);
            let held = held.filter(|stamp| !stamp.version.is_counted(counted_until)).take(room);
            let unlisted: Vec<Target> = held.map(|stamp| stamp.target).collect();
            room -= unlisted.len();
            self.name(unlisted.into_iter(), counted_until);
        }
    }

    /// Until when a head of this maker, which lives, says all that is held of it: that, everybody hears of without being told. Not what is
    /// younger, since a maker may tell it to one node alone.
    fn counted_until(&mut self, maker: &ClientId) -> Option<UnixMillis> {
        let head = self.makers.head(maker).filter(|_| !self.makers.is_stale(maker));
        let head = head.map(|head| (head.at, head.root));
        let counts_all = head.filter(|(at, root)| self.holds_all(maker, *at, *root));
        counts_all.map(|(at, _)| at)
    }

    fn name(&mut self, targets: impl Iterator<Item = Target>, counted_until: Option<UnixMillis>) {
        let found: Vec<Stamp> = targets
            .filter_map(|target| Some(Stamp { target, version: self.index.newest(&target)? }))
            .filter(|stamp| !stamp.version.is_counted(counted_until))
            .collect();
        if found.is_empty() {
            return;
        }
        for peer in self.neighbours.ids().collect::<Vec<_>>() {
            for stamp in &found {
                self.neighbours.owe(peer, News::Record(*stamp));
            }
        }
        self.time_have();
    }

    /// Whether all this is held by now. Who lists something may still deliver something older.
    fn came(&self, listed: &BTreeMap<Target, Version>) -> bool {
        listed
            .iter()
            .all(|(target, version)| self.index.covers(&Stamp { target: *target, version: *version }))
    }

    fn drop_job(&mut self, job: &Job) {
        for id in job.questions.keys() {
            // Its answer will say nothing to anybody.
            if let Some((_, asked)) = self.asked.get_mut(id) {
                *asked = Asked::Leave;
            }
        }
    }

    /// Asks the source for more, as far as it may have questions.
    fn ask_on(&mut self, maker: ClientId, job: &mut Job) {
        let Some(source) = job.source else { return };
        while job.questions.len() < QUESTIONS_A_JOB_MAX {
            let Some(part) = job.next_part() else { return };
            let question = match &part {
                Part::Maker => Question::Maker(maker, job.at),
                Part::Bucket(bucket) => Question::Bucket(maker, job.at, *bucket),
                Part::Records(targets) => Question::Records(targets.clone()),
            };
            let Some(id) = self.ask(source, question, Asked::Job(maker)) else { return };
            job.questions.insert(id, part);
        }
    }

    pub(super) fn job_answered(
        &mut self,
        maker: ClientId,
        id: QuestionId,
        from: ClientId,
        answer: Option<Answer<Carried>>,
    ) {
        let Some(job) = self.jobs.running.get_mut(&maker) else { return };
        let Some(part) = job.questions.remove(&id) else { return };
        job.progress_at = self.now;
        match (part, answer) {
            (Part::Maker, Some(Answer::Stamps(stamps))) => self.maker_listed(maker, &stamps),
            (Part::Maker, Some(Answer::Buckets(buckets))) => self.maker_hashed(maker, &buckets),
            (Part::Bucket(bucket), Some(Answer::Stamps(stamps))) => {
                self.bucket_listed(maker, bucket, &stamps);
            }
            (Part::Records(asked), Some(Answer::Records(records))) => {
                self.delivered(maker, from, asked, records);
            }
            (_, Some(Answer::NotTold) | None) => self.next_source(maker),
            (_, Some(_)) => {
                self.punish(from);
                self.next_source(maker);
            }
        }
        self.work(maker);
    }

    /// The source shows nothing more.
    fn next_source(&mut self, maker: ClientId) {
        if let Some(job) = self.jobs.running.get_mut(&maker) {
            let questions = std::mem::take(&mut job.questions);
            (job.source, job.adds_up) = (None, false);
            job.buckets.clear();
            job.unasked.clear();
            job.listed.clear();
            job.lacking.clear();
            job.arriving.clear();
            job.unlisted.clear();
            for id in questions.keys() {
                if let Some((_, asked)) = self.asked.get_mut(id) {
                    *asked = Asked::Leave;
                }
            }
        }
    }

    fn maker_listed(&mut self, maker: ClientId, stamps: &[Stamp]) {
        let adds_up = |root: Root| in_order(stamps) && list_summary(stamps).root == root;
        if let Some(job) = self.jobs.running.get_mut(&maker) {
            job.adds_up = job.signed.is_some_and(|(root, _)| adds_up(root))
                || cfg!(mutant = "replica_believes_any_list");
        }
        if cfg!(mutant = "replica_absence_removes") {
            self.index.keep_only(&maker, stamps);
        }
        self.lacks_of(maker, stamps);
        self.note_unlisted(maker, 0..=u8::MAX, stamps);
    }

    fn maker_hashed(&mut self, maker: ClientId, buckets: &[(u8, Summary)]) {
        let Some(at) = self.jobs.running.get(&maker).map(|job| job.at) else { return };
        let ours: BTreeMap<u8, Root> =
            self.index.buckets(&maker, at).into_iter().map(|(byte, summary)| (byte, summary.root)).collect();
        let in_order = buckets.is_sorted_by(|(a, _), (b, _)| a < b);
        let summary = summary_of(buckets.iter().copied());
        if let Some(job) = self.jobs.running.get_mut(&maker) {
            job.adds_up = in_order && job.signed.is_some_and(|(root, _)| root == summary.root);
            let theirs = buckets.iter().map(|(byte, summary)| (*byte, summary.root));
            job.buckets = theirs.filter(|(byte, root)| ours.get(byte) != Some(root)).collect();
            job.unasked = job.buckets.keys().copied().collect();
        }
        for bucket in ours.into_keys().filter(|byte| !buckets.iter().any(|(listed, _)| listed == byte)) {
            self.note_unlisted(maker, bucket..=bucket, &[]);
        }
    }

    fn bucket_listed(&mut self, maker: ClientId, bucket: u8, stamps: &[Stamp]) {
        if let Some(job) = self.jobs.running.get_mut(&maker) {
            let hash = job.buckets.remove(&bucket);
            job.adds_up &= in_order(stamps) && hash == Some(bucket_of(stamps));
        }
        self.lacks_of(maker, stamps);
        self.note_unlisted(maker, bucket..=bucket, stamps);
    }

    fn lacks_of(&mut self, maker: ClientId, stamps: &[Stamp]) {
        let lacking: Vec<Stamp> = stamps.iter().filter(|stamp| !self.index.covers(stamp)).copied().collect();
        if let Some(job) = self.jobs.running.get_mut(&maker) {
            job.lacking.extend(lacking.iter().map(|stamp| stamp.target));
            job.listed.extend(lacking.iter().map(|stamp| (stamp.target, stamp.version)));
        }
    }

    /// Remembers what is held in these buckets and would be news to whoever lists that.
    fn note_unlisted(&mut self, maker: ClientId, buckets: RangeInclusive<u8>, listed: &[Stamp]) {
        let Some(job) = self.jobs.running.get_mut(&maker) else { return };
        let listed: BTreeMap<Target, Version> = listed.iter().map(|s| (s.target, s.version)).collect();
        let is_news = |stamp: &Stamp| {
            let known = listed.get(&stamp.target);
            known.is_none_or(|known| *known != stamp.version && known.sequence <= stamp.version.sequence)
        };
        let held = self.index.stamps(&maker, buckets, job.at).filter(is_news);
        let room = NAMED_A_JOB_MAX.saturating_sub(job.unlisted.len());
        job.unlisted.extend(held.take(room).map(|stamp| stamp.target));
    }

    fn delivered(&mut self, maker: ClientId, from: ClientId, asked: Vec<Target>, records: Vec<Carried>) {
        let asked: BTreeSet<Target> = asked.into_iter().collect();
        let mut came = BTreeSet::new();
        for record in records {
            let Some(stamp) = record.stamp().filter(|stamp| asked.contains(&stamp.target)) else {
                self.punish(from);
                return self.next_source(maker);
            };
            came.insert(stamp.target);
            if !self.index.covers(&stamp)
                && self.judge(from, record, Via::Fetched(from))
                && let Some(job) = self.jobs.running.get_mut(&maker)
            {
                job.arriving.insert(stamp.target);
            }
        }
        if let Some(job) = self.jobs.running.get_mut(&maker) {
            if came.is_empty() {
                // It lists what it does not have.
                job.adds_up = false;
            } else {
                // What did not fit.
                job.lacking.extend(asked.into_iter().filter(|target| !came.contains(target)));
            }
        }
    }

    /// A version was checked, or is held.
    pub(super) fn job_progress(&mut self, maker: ClientId, target: &Target) {
        let Some(job) = self.jobs.running.get_mut(&maker) else { return };
        if job.arriving.remove(target) {
            job.progress_at = self.now;
            if job.found.len() < NAMED_A_JOB_MAX {
                job.found.insert(*target);
            }
            let was_full = job.arriving.len() + 1 >= FETCHED_A_JOB_MAX;
            if was_full || job.is_idle() || job.arriving.len() % RECORDS_A_QUESTION_MAX == 0 {
                self.work(maker);
            }
        }
    }

    /// Somebody will show nothing more: others are asked in its place.
    pub(super) fn leave_source(&mut self, peer: &ClientId) {
        let jobs = self.jobs.running.iter().filter(|(_, job)| job.source.as_ref() == Some(peer));
        let makers: Vec<ClientId> = jobs.map(|(maker, _)| *maker).collect();
        for maker in makers {
            self.next_source(maker);
            self.work(maker);
        }
    }

    pub(super) fn job_late(&mut self, maker: ClientId) {
        let Some(job) = self.jobs.running.get(&maker) else { return };
        let late_at = job.progress_at.plus(JOB_PATIENCE);
        if late_at <= self.now {
            self.next_source(maker);
            if let Some(job) = self.jobs.running.get_mut(&maker) {
                job.progress_at = self.now;
            }
            self.timers.set(self.now.plus(JOB_PATIENCE), Timer::JobLate(maker));
            self.work(maker);
        } else {
            self.timers.set(late_at, Timer::JobLate(maker));
        }
    }
}

impl Job {
    fn begin(&mut self, source: ClientId, now: Now) {
        (self.source, self.adds_up, self.progress_at) = (Some(source), false, now);
    }

    /// What to ask next: first for lists, then for what is lacking, unless much is on its way.
    fn next_part(&mut self) -> Option<Part> {
        if let Some(bucket) = self.unasked.pop_first() {
            return Some(Part::Bucket(bucket));
        }
        if self.lacking.is_empty() || self.arriving.len() >= FETCHED_A_JOB_MAX {
            return None;
        }
        let count = self.lacking.len().min(RECORDS_A_QUESTION_MAX);
        Some(Part::Records((0..count).filter_map(|_| self.lacking.pop_first()).collect()))
    }

    /// Nothing more is to come from this source.
    fn is_idle(&self) -> bool {
        self.source.is_some()
            && self.questions.is_empty()
            && self.buckets.is_empty()
            && self.lacking.is_empty()
            && self.arriving.is_empty()
    }
}

fn in_order(stamps: &[Stamp]) -> bool {
    stamps.is_sorted_by(|a, b| a.target < b.target)
}

/// The root over all of a maker's versions, by target.
fn list_summary(stamps: &[Stamp]) -> Summary {
    let buckets = stamps.chunk_by(|a, b| a.target.0[0] == b.target.0[0]);
    summary_of(buckets.map(|bucket| {
        let summary = Summary { root: bucket_of(bucket), records: bucket.len() as u32 };
        (bucket[0].target.0[0], summary)
    }))
}
