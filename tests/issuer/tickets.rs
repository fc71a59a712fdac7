//! Tickets (RFC 8555 section 7.3.4): what they are good for, that each use is spent once, and what dies with the
//! machine in between.

use std::sync::Arc;
use std::time::Duration;

use chancery::acme::problem::ProblemType::*;
use chancery::acme::ticket::{Constraints, Secret};
use chancery::env::Disk;
use chancery::env::simulated::{CrashMode, Fault, SimulatedDisk};
use chancery::id::Timestamp;
use chancery::ipc::AskError;
use chancery::ipc::admin::accounts::AccountQuestion;
use chancery::ipc::admin::tickets::{
    MintedTicket, NewTicket, TicketAnswer, TicketQuestion, TicketStatus,
};
use chancery::ipc::admin::{AdminAnswer, AdminQuestion, AdminRefusal, Operator};
use chancery::ipc::message::{Answer, Permits, Question};
use chancery::pki::name::Identifier;

use crate::house::{Account, Csr, House, NOW, Office};
use crate::{certificate, refused};

const DAY: Duration = Duration::from_secs(86_400);

pub(crate) fn admin(
    running: &Office,
    question: TicketQuestion,
) -> Result<TicketAnswer, AdminRefusal> {
    let operator = Operator { uid: 7, user: "ada".into() };
    match running.running.admin().answer(&operator, AdminQuestion::Ticket(question))? {
        AdminAnswer::Ticket(answer) => Ok(answer),
        other => panic!("{other:?}"),
    }
}

pub(crate) fn ticket(names: &[&str], suffixes: &[&str], uses: u32) -> NewTicket {
    let none: [&str; 0] = [];
    let (names, suffixes) = (names.iter().copied(), suffixes.iter().copied());
    NewTicket {
        constraints: Constraints::parse(names, suffixes, none, None, false).unwrap(),
        uses,
        expires: NOW.plus(30 * DAY),
        note: String::new(),
    }
}

fn mint(running: &Office, tickets: Vec<NewTicket>) -> Vec<MintedTicket> {
    match admin(running, TicketQuestion::Mint { tickets, dry: false }) {
        Ok(TicketAnswer::Minted(minted)) => minted,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn mint_one(running: &Office, ticket: NewTicket) -> MintedTicket {
    mint(running, vec![ticket]).remove(0)
}

pub(crate) fn list(running: &Office) -> Vec<TicketStatus> {
    match admin(running, TicketQuestion::List { after: None }) {
        Ok(TicketAnswer::List(all)) => all,
        other => panic!("{other:?}"),
    }
}

fn register(
    running: &Office,
    account: &Account,
    ticket: &MintedTicket,
) -> Result<Answer, AskError> {
    running.ask(Question::Register { jws: account.with_ticket(ticket) })
}

fn enrolled(running: &Office, ticket: &MintedTicket) -> Account {
    let account = Account::unregistered();
    match register(running, &account, ticket) {
        Ok(Answer::Account { account: id, existing: false, bound: true }) => {
            Account { id, ..account }
        }
        other => panic!("{other:?}"),
    }
}

fn permits(running: &Office, account: &Account, names: &[&str]) -> Result<Answer, AskError> {
    let identifiers = names.iter().map(|name| Identifier::parse("dns", name).unwrap()).collect();
    running.ask(Question::Permits(Box::new(Permits {
        account: account.id,
        identifiers,
        profile: None,
    })))
}

#[test]
fn a_use_is_spent_once_and_its_account_is_the_same_when_asked_again() {
    let house = House::new();
    let running = house.start();
    let minted = mint_one(&running, ticket(&[], &[], 2));
    let one = enrolled(&running, &minted);
    // A lost answer costs nothing: the same key, the same ticket.
    let again = Answer::Account { account: one.id, existing: true, bound: true };
    assert_eq!(register(&running, &one, &minted), Ok(again.clone()));
    drop(running);
    let running = house.start();
    assert_eq!(register(&running, &one, &minted), Ok(again));
    enrolled(&running, &minted);
    let third = Account::unregistered();
    assert_eq!(refused(register(&running, &third, &minted)), Unauthorized);
    let listed = list(&running);
    assert_eq!((listed[0].used, listed[0].uses), (2, 2));
    drop(running);
    let running = house.start();
    assert_eq!(refused(register(&running, &third, &minted)), Unauthorized);
    certificate(running.finalize(&one, 1, &Csr::names(&["dev.lan"])));
}

#[test]
fn of_many_registrations_at_once_as_many_happen_as_there_are_uses() {
    let house = House::new();
    let running = house.start();
    let minted = mint_one(&running, ticket(&[], &[], 3));
    let accounts: Vec<Account> = (0..12).map(|_| Account::unregistered()).collect();
    let size = running.log.head().size;
    let attempt = |account: &Account| {
        loop {
            match register(&running, account, &minted) {
                // The last uses are on their way to others.
                Err(AskError::Retry(wait)) => std::thread::park_timeout(wait.min(DAY / 864_000)),
                answer => return answer,
            }
        }
    };
    let answers: Vec<_> = std::thread::scope(|scope| {
        let asks: Vec<_> =
            accounts.iter().map(|account| scope.spawn(|| attempt(account))).collect();
        asks.into_iter().map(|ask| ask.join().unwrap()).collect()
    });
    let made = answers.iter().filter(|answer| answer.is_ok()).count();
    assert_eq!((made, running.log.head().size), (3, size + 3), "{answers:?}");
}

#[test]
fn names_bound_to_a_ticket_are_had_by_no_other_account() {
    let house = House::new();
    let running = house.start();
    let stranger = running.register();
    let bound = mint_one(&running, ticket(&["cam1.lan"], &["line1.lan"], 1));
    let device = enrolled(&running, &bound);
    for names in [&["cam1.lan"][..], &["x.line1.lan"], &["line1.lan"], &["a.lan", "cam1.lan"]] {
        assert_eq!(refused(permits(&running, &stranger, names)), RejectedIdentifier, "{names:?}");
        let csr = Csr::names(names);
        assert_eq!(refused(running.finalize(&stranger, 1, &csr)), RejectedIdentifier, "{names:?}");
    }
    assert!(permits(&running, &stranger, &["cam2.lan"]).is_ok());
    // The device has its names, and no others.
    assert!(permits(&running, &device, &["cam1.lan", "x.line1.lan"]).is_ok());
    assert_eq!(refused(permits(&running, &device, &["cam2.lan"])), RejectedIdentifier);
    assert_eq!(
        refused(running.finalize(&device, 2, &Csr::names(&["cam2.lan"]))),
        RejectedIdentifier
    );
    certificate(running.finalize(&device, 3, &Csr::names(&["cam1.lan"])));

    // Nobody else is minted a ticket for them, nor one that reaches over them.
    for clash in [ticket(&["cam1.lan"], &[], 1), ticket(&[], &["lan"], 1)] {
        let mint = TicketQuestion::Mint { tickets: vec![clash], dry: true };
        let answer = admin(&running, mint);
        assert!(
            matches!(&answer, Err(AdminRefusal::Refused(text)) if text.starts_with("CHY-TICKET-CLASH")),
            "{answer:?}"
        );
    }
    // They are free when the ticket is over and its account has ended, not before.
    let revoke = TicketQuestion::Revoke { ticket: bound.ticket };
    assert_eq!(admin(&running, revoke), Ok(TicketAnswer::Revoked(true)));
    assert_eq!(refused(permits(&running, &stranger, &["cam1.lan"])), RejectedIdentifier);
    assert!(permits(&running, &device, &["cam1.lan"]).is_ok());
    let operator = Operator { uid: 0, user: "root".into() };
    let end = AdminQuestion::Account(AccountQuestion::Deactivate(device.id));
    running.running.admin().answer(&operator, end).unwrap();
    drop(running);
    let running = house.start();
    assert!(permits(&running, &stranger, &["cam1.lan"]).is_ok());
    let heir = mint_one(&running, ticket(&["cam1.lan"], &[], 1));
    enrolled(&running, &heir);
    assert_eq!(refused(permits(&running, &stranger, &["cam1.lan"])), RejectedIdentifier);
}

#[test]
fn a_ticket_says_the_profile() {
    let house = House::new();
    let running = house.start();
    let mut wanted = ticket(&[], &[], 1);
    wanted.constraints.profile = Some("server".into());
    let device = enrolled(&running, &mint_one(&running, wanted.clone()));
    let profile = Some("server".to_owned());
    assert_eq!(permits(&running, &device, &["a.lan"]), Ok(Answer::Permitted { profile }));
    let asked =
        Permits { account: device.id, identifiers: Vec::new(), profile: Some("codesign".into()) };
    assert_eq!(refused(running.ask(Question::Permits(Box::new(asked)))), InvalidProfile);
    wanted.constraints.profile = Some("none".into());
    let answer = admin(&running, TicketQuestion::Mint { tickets: vec![wanted], dry: false });
    assert!(
        matches!(&answer, Err(AdminRefusal::Refused(text)) if text.starts_with("CHY-TICKET-BAD"))
    );
}

#[test]
fn what_makes_no_sense_is_not_minted_and_nothing_else_with_it() {
    let house = House::new();
    let running = house.start();
    let size = running.log.head().size;
    let long = NewTicket { note: "x".repeat(201), ..ticket(&[], &[], 1) };
    let past = NewTicket { expires: Timestamp(1), ..ticket(&[], &[], 1) };
    let bad = [
        ticket(&[], &[], 0),
        past,
        long,
        ticket(&["www.example.com"], &[], 1),
        ticket(&[], &["example.com"], 1),
    ];
    for bad in bad {
        let tickets = vec![ticket(&["a.lan"], &[], 1), bad.clone()];
        let answer = admin(&running, TicketQuestion::Mint { tickets, dry: false });
        assert!(
            matches!(&answer, Err(AdminRefusal::Refused(text)) if text.starts_with("CHY-TICKET-BAD")),
            "{bad:?}: {answer:?}"
        );
    }
    let twice = vec![ticket(&["a.lan"], &[], 1), ticket(&[], &["lan"], 1)];
    let answer = admin(&running, TicketQuestion::Mint { tickets: twice, dry: false });
    assert!(
        matches!(&answer, Err(AdminRefusal::Refused(text)) if text.contains("ticket 1 of these")),
        "{answer:?}"
    );
    let dry = TicketQuestion::Mint { tickets: vec![ticket(&["a.lan"], &[], 1)], dry: true };
    assert_eq!(admin(&running, dry), Ok(TicketAnswer::Minted(Vec::new())));
    assert_eq!(running.log.head().size, size);
    assert!(list(&running).is_empty());
}

/// The secrets are in the tickets' file and in nothing else the issuer writes, and go when the ticket is over.
#[test]
fn secrets_are_in_one_place() {
    let house = House::new();
    let running = house.start();
    let tickets = vec![ticket(&["a.lan"], &[], 1), ticket(&["b.lan"], &[], 1)];
    let minted = mint(&running, tickets);
    enrolled(&running, &minted[0]);
    let found = |disk: &SimulatedDisk, secret: &Secret| -> Vec<String> {
        let text = secret.text();
        let holds = |bytes: &[u8], part: &[u8]| bytes.windows(part.len()).any(|w| w == part);
        ["/issuer", "/issuer/log", "/issuer/tickets", "/public"]
            .iter()
            .flat_map(|dir| {
                let names = disk.list(dir.as_ref()).unwrap_or_default();
                names.into_iter().map(move |name| format!("{dir}/{name}"))
            })
            .filter(|path| {
                let bytes = disk.read(path.as_ref(), 64 << 20).unwrap_or_default();
                holds(&bytes, text.as_bytes()) || holds(&bytes, secret.octets())
            })
            .collect()
    };
    let file = format!("/issuer/tickets/{}.json", minted[0].ticket);
    for MintedTicket { secret, .. } in &minted {
        assert_eq!(found(&house.disk, secret), std::slice::from_ref(&file));
    }
    let revoke = TicketQuestion::Revoke { ticket: minted[0].ticket.clone() };
    admin(&running, revoke).unwrap();
    assert!(found(&house.disk, &minted[0].secret).is_empty());
    assert_eq!(found(&house.disk, &minted[1].secret), std::slice::from_ref(&file));
    // One that expired goes at the next start.
    drop(running);
    house.clock.advance(31 * DAY);
    house.accept_clock();
    let running = house.start();
    assert!(found(&house.disk, &minted[1].secret).is_empty());
    assert_eq!(list(&running).len(), 2);
}

/// A file that says more than was recorded is not believed; one that is gone takes its accounts' names along.
#[test]
fn files_that_were_altered_or_lost() {
    let house = House::new();
    let running = house.start();
    let minted = mint_one(&running, ticket(&["a.lan"], &[], 2));
    let device = enrolled(&running, &minted);
    let file = format!("/issuer/tickets/{}.json", minted.ticket);
    drop(running);
    let text = String::from_utf8(house.disk.read(file.as_ref(), 1 << 20).unwrap()).unwrap();
    let more = text.replace("\"uses\":2", "\"uses\":3").replace("a.lan", "b.lan");
    assert_ne!(more, text);
    house.disk.replace(file.as_ref(), more.as_bytes(), true).unwrap();
    let running = house.start();
    assert_eq!(refused(register(&running, &Account::unregistered(), &minted)), ServerInternal);
    assert_eq!(refused(permits(&running, &device, &["b.lan"])), ServerInternal);
    drop(running);
    house.disk.remove(file.as_ref()).unwrap();
    let running = house.start();
    assert_eq!(refused(permits(&running, &device, &["a.lan"])), Unauthorized);
    assert_eq!(refused(running.finalize(&device, 1, &Csr::names(&["a.lan"]))), Unauthorized);
    drop(running);
    house.disk.replace(file.as_ref(), b"{}", true).unwrap();
    let refused = house.try_start().err().unwrap();
    assert!(refused.starts_with("CHY-TICKET-FILE"), "{refused}");
}

/// The machine stops after every effect of a registration: the use is then spent with the account, or neither.
#[test]
fn a_crash_spends_a_use_with_its_account_or_not_at_all() {
    let mut disturbed = 0;
    for effect in 0..14 {
        for mode in [CrashMode::Lost, CrashMode::Kept, CrashMode::Torn] {
            let house = House::new();
            let running = house.start();
            let minted = mint_one(&running, ticket(&["a.lan"], &[], 1));
            let first = Account::unregistered();
            house.disk.strike(house.disk.effects() + effect, Fault::Stop);
            let question = Question::Register { jws: first.with_ticket(&minted) };
            let answered = running.ask_within(question, Duration::from_millis(400));
            disturbed += usize::from(house.disk.is_stopped());
            let after = house.disk.crash(mode, effect);
            drop(running);
            let house = house.on(after);
            let running = house.start();
            let what = format!("effect {effect}, {mode:?}, answered {answered:?}");
            let used = list(&running)[0].used;
            let again = register(&running, &first, &minted);
            match answered {
                Ok(Answer::Account { account, .. }) => {
                    let same = Answer::Account { account, existing: true, bound: true };
                    assert_eq!((used, again), (1, Ok(same)), "{what}");
                }
                _ => assert!(
                    matches!(again, Ok(Answer::Account { existing, .. }) if existing == (used == 1)),
                    "{what}: {used} {again:?}"
                ),
            }
            assert_eq!(list(&running)[0].used, 1, "{what}");
            let second = Account::unregistered();
            assert_eq!(refused(register(&running, &second, &minted)), Unauthorized, "{what}");
        }
    }
    assert!(disturbed > 5, "only {disturbed} registrations were disturbed");
}

/// The same while tickets are minted: what was handed out is there, and what was not is nobody's.
#[test]
fn a_crash_while_minting_leaves_no_ticket_half_made() {
    for effect in 0..16 {
        let house = House::new();
        let running = Arc::new(house.start());
        house.disk.strike(house.disk.effects() + effect, Fault::Stop);
        let (sender, receiver) = std::sync::mpsc::channel();
        let minting = Arc::clone(&running);
        std::thread::spawn(move || {
            let tickets = vec![ticket(&["a.lan"], &[], 1), ticket(&["b.lan"], &[], 1)];
            let answer = admin(&minting, TicketQuestion::Mint { tickets, dry: false });
            let _ = sender.send(answer);
        });
        let answer = receiver.recv_timeout(Duration::from_millis(400));
        let after = house.disk.crash(CrashMode::Lost, effect);
        let house = house.on(after);
        let running = house.start();
        let listed = list(&running);
        if let Ok(Ok(TicketAnswer::Minted(minted))) = answer {
            assert_eq!(listed.len(), 2, "effect {effect}");
            minted.iter().for_each(|ticket| drop(enrolled(&running, ticket)));
        } else {
            // Whatever is left can be seen and ended; its names are then free.
            for status in &listed {
                let revoke = TicketQuestion::Revoke { ticket: status.ticket.clone() };
                assert_eq!(admin(&running, revoke), Ok(TicketAnswer::Revoked(true)));
            }
            mint_one(&running, ticket(&["a.lan"], &[], 1));
        }
    }
}
