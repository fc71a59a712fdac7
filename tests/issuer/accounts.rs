//! Registration, and what one account may have.

use std::time::Duration;

use chancery::acme::problem::ProblemType;
use chancery::ipc::AskError;
use chancery::ipc::message::{Answer, Question};

use crate::house::{Account, Csr, House};
use crate::{HOUR, refused};

#[test]
fn an_account_is_registered_once() {
    let house = House::new();
    let running = house.start();
    let account = Account::unregistered();
    let register = |only| running.ask(Question::Register { jws: account.new_account(only) });
    assert_eq!(refused(register(true)), ProblemType::AccountDoesNotExist);
    let size = running.log.head().size;
    let answers: Vec<_> = std::thread::scope(|scope| {
        let asks: Vec<_> = (0..8).map(|_| scope.spawn(|| register(false))).collect();
        asks.into_iter().map(|ask| ask.join().unwrap().unwrap()).collect()
    });
    let mut ids = Vec::new();
    let mut new = 0;
    for answer in answers {
        let Answer::Account { account, existing, .. } = answer else { panic!() };
        ids.push(account);
        new += usize::from(!existing);
    }
    assert!(ids.iter().all(|id| *id == ids[0]));
    assert_eq!(new, 1);
    assert_eq!(running.log.head().size, size + 1);
    drop(running);
    let running = house.start();
    let found = running.ask(Question::Register { jws: account.new_account(true) });
    assert_eq!(found, Ok(Answer::Account { account: ids[0], existing: true, bound: false }));
}

/// Whoever has many accounts has no more of the token for it.
#[test]
fn certificates_are_capped_over_all_accounts() {
    let mut house = House::new();
    house.settings.issuance_per_hour = 2;
    let running = house.start();
    let csr = Csr::names(&["dev.lan"]);
    let accounts = [running.register(), running.register(), running.register()];
    assert!(running.finalize(&accounts[0], 1, &csr).is_ok());
    house.clock.advance(HOUR / 4);
    assert!(running.finalize(&accounts[1], 2, &csr).is_ok());
    let asked = running.finalize(&accounts[2], 3, &csr);
    assert!(
        matches!(&asked, Err(AskError::Limited(problem, after))
            if problem.kind == ProblemType::RateLimited && *after == HOUR / 4 * 3),
        "{asked:?}"
    );
    assert!(running.finalize(&accounts[0], 1, &csr).is_ok(), "an answer again is no issuance");
    house.clock.advance(HOUR / 4 * 3);
    assert!(running.finalize(&accounts[2], 3, &csr).is_ok());
}

#[test]
fn accounts_and_certificates_are_capped() {
    let mut house = House::new();
    house.settings.registrations_per_hour = 2;
    house.settings.issuance_per_account_per_hour = 1;
    let running = house.start();
    let (a, b) = (running.register(), running.register());
    let third = Account::unregistered();
    let asked = running.ask(Question::Register { jws: third.new_account(false) });
    assert!(
        matches!(&asked, Err(AskError::Limited(problem, after))
            if problem.kind == ProblemType::RateLimited && *after > Duration::from_secs(3000)),
        "{asked:?}"
    );
    let csr = Csr::names(&["dev.lan"]);
    assert!(running.finalize(&a, 1, &csr).is_ok());
    assert_eq!(refused(running.finalize(&a, 2, &csr)), ProblemType::RateLimited);
    assert!(running.finalize(&a, 1, &csr).is_ok(), "an answer again is no issuance");
    assert!(running.finalize(&b, 3, &csr).is_ok());
    house.clock.advance(HOUR);
    assert!(running.finalize(&a, 2, &csr).is_ok());
}
