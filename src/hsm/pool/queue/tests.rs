//! The queue before a token in simulated time.

use std::sync::{Arc, Mutex};

use proptest::prelude::*;

use super::*;

const MS: Duration = Duration::from_millis(1);
/// A slow token.
const TAKES: Duration = Duration::from_millis(70);

fn queue(limit: usize) -> Queue {
    let mut pace = Pace::new(4, 1);
    for key in 0..4 {
        pace.took(key, TAKES);
    }
    Queue::new(limit, &Classes::default(), pace, 4)
}

fn job(class: Class, key: usize) -> Job {
    of(class, key, 0)
}

fn of(class: Class, key: usize, party: u8) -> Job {
    let request = Request::new(class, vec![7]).party([party; 16]);
    Job::new(key, request, Box::new(|_| {}), Duration::ZERO)
}

fn took(queue: &mut Queue, job: Job) -> bool {
    queue.push(job, Duration::ZERO).is_none()
}

fn pop(queue: &mut Queue) -> Option<Job> {
    match queue.pop(Duration::ZERO) {
        Next::Sign(job) => Some(job),
        Next::NotBefore(_) | Next::Idle => None,
    }
}

#[test]
fn a_due_checkpoint_waits_for_one_batch_at_most_and_the_next_for_one() {
    let mut queue = queue(400);
    for n in 0..100 {
        assert!(took(&mut queue, job(Class::Certificate, n % 4)));
    }
    for _ in 0..30 {
        pop(&mut queue).unwrap();
    }
    let mut between = Vec::new();
    for _ in 0..3 {
        assert!(took(&mut queue, job(Class::Checkpoint, 0)));
        let others = std::iter::from_fn(|| pop(&mut queue));
        between.push(others.take_while(|job| job.class != Class::Checkpoint).count() as u64);
    }
    assert_eq!(between, [0, BATCH - 1, BATCH]);
}

#[test]
fn a_flood_of_handshakes_leaves_certificates_half() {
    let mut queue = queue(400);
    for n in 0..40 {
        assert!(took(&mut queue, job(Class::Tls, n % 4)));
        assert!(took(&mut queue, job(Class::Certificate, n % 4)));
    }
    let served: Vec<Class> = (0..44).map(|_| pop(&mut queue).unwrap().class).collect();
    let count = |class| served.iter().filter(|c| **c == class).count();
    assert_eq!((count(Class::Certificate), count(Class::Tls)), (22, 22));
}

#[test]
fn a_crl_overtakes_when_it_has_waited_as_long_as_it_may() {
    let mut queue = queue(400);
    let crl = |wait| {
        let request = Request::new(Class::Crl, vec![1]).overtaking_after(wait);
        Job::new(1, request, Box::new(|_| {}), Duration::ZERO)
    };
    assert!(took(&mut queue, crl(MS * 500)));
    pop(&mut queue).unwrap();
    for n in 0..100 {
        assert!(took(&mut queue, job(Class::Certificate, n % 4)));
        assert!(n > 10 || took(&mut queue, job(Class::Checkpoint, 0)));
    }
    assert!(took(&mut queue, crl(MS * 500)));
    let mut class = |now| match queue.pop(now) {
        Next::Sign(job) => job.class,
        _ => panic!("nothing to sign"),
    };
    assert_ne!(class(MS * 499), Class::Crl);
    assert_eq!(class(MS * 500), Class::Crl);
    assert_ne!(class(MS * 570), Class::Crl);
}

#[test]
fn certificates_of_a_party_are_first_come_first_served_also_when_put_back() {
    let mut queue = queue(16);
    for n in 0..3 {
        assert!(took(&mut queue, job(Class::Certificate, n)));
    }
    let first = pop(&mut queue).unwrap();
    queue.put_back(first);
    let order: Vec<usize> = std::iter::from_fn(|| pop(&mut queue)).map(|j| j.key).collect();
    assert_eq!(order, [0, 1, 2]);
    assert_eq!(queue.len(), 0);
}

#[test]
fn certificates_never_fill_what_is_kept_for_the_others() {
    let mut queue = queue(16);
    while took(&mut queue, job(Class::Certificate, 0)) {}
    assert_eq!(queue.len(), 12);
    assert!(took(&mut queue, job(Class::Tls, 0)));
    while took(&mut queue, job(Class::Tls, 0)) {}
    assert!(took(&mut queue, job(Class::Checkpoint, 0)));
    while took(&mut queue, job(Class::Crl, 0)) {}
    assert_eq!(queue.len(), 16);
}

#[test]
fn an_idle_lane_saves_up_nothing() {
    let mut queue = queue(1000);
    for n in 0..200 {
        assert!(took(&mut queue, job(Class::Certificate, n % 4)));
    }
    for _ in 0..150 {
        pop(&mut queue).unwrap();
    }
    for n in 0..40 {
        assert!(took(&mut queue, job(Class::Tls, n % 4)));
    }
    let served = (0..30).filter(|_| pop(&mut queue).unwrap().class == Class::Tls).count();
    assert!(served <= 16, "{served}");
}

#[test]
fn who_fills_a_lane_makes_room_for_others() {
    let mut queue = queue(16);
    while took(&mut queue, of(Class::Certificate, 0, 1)) {}
    let mut left = Vec::new();
    for party in 2..6 {
        let Left(job, why) = queue.push(of(Class::Certificate, 1, party), Duration::ZERO).unwrap();
        assert!(matches!(why, SignError::Retry(_)));
        left.push((job.key, job.party));
    }
    assert_eq!(left, [(0, [1; 16]); 4]);
    let served: Vec<u8> = (0..5).map(|_| pop(&mut queue).unwrap().party[0]).collect();
    assert_eq!(served, [1, 2, 3, 4, 5]);
}

#[test]
fn what_has_no_room_is_told_when_there_will_be_some() {
    let mut queue = queue(64);
    while took(&mut queue, job(Class::Certificate, 0)) {}
    let Left(_, why) = queue.push(job(Class::Certificate, 0), Duration::ZERO).unwrap();
    assert_eq!(why, SignError::Retry(TAKES * 48));
    // Handshakes that could not be answered in time are refused before they cost a signature.
    let mut patient = Classes::default();
    patient.tls.patience_seconds = Some(1);
    let mut pace = Pace::new(1, 2);
    pace.took(0, TAKES);
    let mut queue = Queue::new(256, &patient, pace, 1);
    let taken = (0..100).take_while(|_| took(&mut queue, job(Class::Tls, 0))).count();
    assert_eq!(taken, 27, "two sessions, a second");
}

#[test]
fn what_nobody_waits_for_leaves_and_makes_room() {
    let mut queue = queue(16);
    let asker = Arc::new(());
    let wanted = |asker: &Arc<()>| {
        let request = Request::new(Class::Certificate, vec![1]).wanted_by(asker);
        Job::new(0, request, Box::new(|_| {}), Duration::ZERO)
    };
    while took(&mut queue, wanted(&asker)) {}
    drop(asker);
    assert!(took(&mut queue, job(Class::Certificate, 1)));
    assert_eq!(queue.len(), 1);
    assert_eq!(std::iter::from_fn(|| queue.take_left()).count(), 12);

    let asker = Arc::new(());
    assert!(took(&mut queue, wanted(&asker)));
    drop(asker);
    assert_eq!(pop(&mut queue).unwrap().key, 1);
    assert!(pop(&mut queue).is_none());
    assert_eq!(std::iter::from_fn(|| queue.take_left()).count(), 1);
}

#[test]
fn a_checkpoint_waits_a_moment_for_the_certificate_that_was_just_signed() {
    let mut queue = queue(16);
    assert!(took(&mut queue, job(Class::Checkpoint, 0)));
    queue.signed(Class::Certificate, 0, TAKES, MS * 100);
    let Next::NotBefore(until) = queue.pop(MS * 101) else { panic!("it did not wait") };
    assert_eq!(until, MS * 100 + TAKES / 8);
    // Not while something else does.
    assert!(took(&mut queue, job(Class::Tls, 0)));
    assert!(matches!(queue.pop(MS * 101), Next::Sign(job) if job.class == Class::Checkpoint));
    assert!(took(&mut queue, job(Class::Checkpoint, 0)));
    assert!(matches!(queue.pop(until), Next::Sign(job) if job.class == Class::Tls));
    assert!(matches!(queue.pop(until), Next::Sign(job) if job.class == Class::Checkpoint));
}

/// Somebody comes, and may give up.
#[derive(Clone, Debug)]
struct Arrival {
    at: Duration,
    class: Class,
    party: u8,
    gives_up_after: Option<Duration>,
}

/// What became of an arrival.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    Signed { begun: Duration },
    Left,
}

/// What the token did, in order: which arrival it signed; a checkpoint of the log has none.
#[derive(Debug)]
struct Run {
    fates: Vec<Fate>,
    served: Vec<(Duration, Class, Option<usize>)>,
    /// When each of the log's checkpoints was asked for, and begun.
    checkpoints: Vec<(Duration, Duration)>,
}

/// A token of one session that takes `TAKES`, and a log that asks for a checkpoint whenever a certificate is not
/// covered and it does not wait for one.
fn run(arrivals: &[Arrival], limit: usize) -> Run {
    let mut queue = queue(limit);
    let told: Arc<Mutex<Vec<(usize, bool)>>> = Arc::default();
    let mut askers: Vec<Option<Arc<()>>> = Vec::new();
    let (mut now, mut next) = (Duration::ZERO, 0);
    let (mut uncovered, mut asked) = (0u32, None);
    let mut begun = vec![Duration::ZERO; arrivals.len()];
    let mut run = Run { fates: Vec::new(), served: Vec::new(), checkpoints: Vec::new() };
    loop {
        while let Some(arrival) = arrivals.get(next).filter(|arrival| arrival.at <= now) {
            let (told, index, asker) = (Arc::clone(&told), next, Arc::new(()));
            let request = Request::new(arrival.class, (index as u64).to_be_bytes().to_vec())
                .party([arrival.party; 16])
                .wanted_by(&asker);
            let then = Box::new(move |outcome: Result<_, _>| {
                told.lock().unwrap().push((index, outcome.is_ok()));
            });
            let key = number(arrival.class) % 4;
            if let Some(left) = queue.push(Job::new(key, request, then, arrival.at), arrival.at) {
                left.answer();
            }
            askers.push(Some(asker));
            next += 1;
        }
        for (arrival, asker) in arrivals.iter().zip(&mut askers) {
            if arrival.gives_up_after.is_some_and(|after| arrival.at + after <= now) {
                *asker = None;
            }
        }
        if uncovered > 0 && asked.is_none() {
            let checkpoint = Request::new(Class::Checkpoint, Vec::new());
            assert!(queue.push(Job::new(1, checkpoint, Box::new(|_| {}), now), now).is_none());
            asked = Some(now);
        }
        let popped = queue.pop(now);
        std::iter::from_fn(|| queue.take_left()).for_each(Left::answer);
        match popped {
            Next::Sign(mut job) => {
                assert!(job.compose());
                let index = job.octets().try_into().ok().map(|n| u64::from_be_bytes(n) as usize);
                run.served.push((now, job.class, index));
                match index {
                    Some(index) => {
                        assert!(askers[index].is_some(), "signed for nobody");
                        begun[index] = now;
                    }
                    None => {
                        run.checkpoints.push((asked.take().unwrap(), now));
                        uncovered = 0;
                    }
                }
                now += TAKES;
                uncovered += u32::from(job.class == Class::Certificate);
                queue.signed(job.class, job.key, TAKES, now);
                job.answer(Ok(Vec::new()));
            }
            Next::NotBefore(until) => now = until.min(now + MS),
            Next::Idle => match arrivals.get(next) {
                Some(arrival) => now = arrival.at,
                None => break,
            },
        }
    }
    let mut told = told.lock().unwrap().clone();
    told.sort_unstable();
    assert!(told.iter().map(|(index, _)| *index).eq(0..arrivals.len()), "each is answered once");
    let fate = |(index, signed): &(usize, bool)| {
        if *signed { Fate::Signed { begun: begun[*index] } } else { Fate::Left }
    };
    run.fates = told.iter().map(fate).collect();
    run
}

fn arrivals() -> impl Strategy<Value = Vec<Arrival>> {
    let class = prop_oneof![
        6 => Just(Class::Certificate),
        3 => Just(Class::Tls),
        1 => Just(Class::Crl),
        1 => Just(Class::Cosignature),
    ];
    // Mostly more than the token can do; sometimes long pauses.
    let pause = prop_oneof![12 => 0u64..80, 1 => 0u64..3000];
    let gives_up = proptest::option::weighted(0.1, (0u64..2000).prop_map(Duration::from_millis));
    // Party 0 asks for as much as all others together.
    let party = prop_oneof![1 => Just(0u8), 1 => 1u8..8];
    proptest::collection::vec((pause, class, party, gives_up), 1..250).prop_map(|steps| {
        let mut at = Duration::ZERO;
        let arrival = |(pause, class, party, gives_up_after)| {
            at += Duration::from_millis(pause);
            Arrival { at, class, party, gives_up_after }
        };
        steps.into_iter().map(arrival).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Nothing is signed in vain or too late; nothing idles while something waits; no class and no party starves.
    #[test]
    fn a_slow_token_is_shared_fairly(arrivals in arrivals(), limit in prop_oneof![Just(32usize), Just(256)]) {
        let run = run(&arrivals, limit);
        for (arrival, fate) in arrivals.iter().zip(&run.fates) {
            let Fate::Signed { begun } = fate else { continue };
            let patience = Classes::default().patience(arrival.class);
            prop_assert!(*begun + TAKES <= arrival.at + patience);
            prop_assert!(arrival.gives_up_after.is_none_or(|after| *begun < arrival.at + after));
        }
        for (asked, begun) in &run.checkpoints {
            let waited_for = run.served.iter().filter(|(at, class, _)| {
                *class == Class::Certificate && at >= asked && at < begun
            });
            prop_assert!(waited_for.count() as u64 <= BATCH);
        }
        for pair in run.served.windows(2) {
            let (ended, began) = (pair[0].0 + TAKES, pair[1].0);
            let waiting = arrivals.iter().zip(&run.fates).any(|(arrival, fate)| {
                matches!(fate, Fate::Signed { begun } if arrival.at <= ended && *begun >= began)
            });
            prop_assert!(!waiting || began <= ended + TAKES / 8, "idle from {:?} to {:?}", ended, began);
        }
        for (index, (arrival, fate)) in arrivals.iter().zip(&run.fates).enumerate() {
            let Fate::Signed { begun } = fate else { continue };
            let meanwhile = |class, party: Option<u8>| {
                run.served.iter().filter(|(at, served, who)| {
                    let theirs = who.map(|who| arrivals[who].party);
                    *served == class && *at >= arrival.at && at < begun
                        && (party.is_none() || theirs == party)
                }).count()
            };
            let own = meanwhile(arrival.class, Some(arrival.party));
            // Whoever else asks in this class is served at most once more often meanwhile.
            for other in (0..8).filter(|other| *other != arrival.party) {
                let theirs = meanwhile(arrival.class, Some(other));
                prop_assert!(theirs <= own + 1, "{index}: {theirs} of {other} before it, {own} its own");
            }
            // Other classes have their share of the time and no more.
            let lane = meanwhile(arrival.class, None) as u64;
            for class in Class::ALL.into_iter().filter(|class| *class != arrival.class) {
                let most = (lane + 2) * stride(arrival.class) / stride(class) + 2;
                let theirs = meanwhile(class, None) as u64;
                prop_assert!(theirs <= most, "{index}: {theirs} {class:?} before it, {lane} its own class");
            }
        }
    }
}
