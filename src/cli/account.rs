//! `chancery account`: accounts as the issuer knows them. Contacts are the web process's, and not here.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::admin::{Issuer, unexpected};
use super::{Context, Failure, confirm, print, print_json};
use crate::acme::directory::{Resource, Urls};
use crate::config::Config;
use crate::id::{AccountId, hex};
use crate::ipc::admin::accounts::{AccountAnswer, AccountQuestion, AccountStatus};
use crate::ipc::admin::{AdminAnswer, AdminQuestion};

/// `chancery account …`.
#[derive(Debug, Subcommand)]
pub enum AccountCommand {
    /// All accounts.
    List,
    /// One account: its key, the ticket it came by, whether it has ended.
    Show(Which),
    /// End an account for ever: it gets no certificates and no answers. Those it has stay; revoke them besides.
    Deactivate(Deactivate),
}

/// Which one.
#[derive(Debug, Args)]
pub struct Which {
    /// Its id, the last part of its URL; or the URL.
    // An id is base64url: one in 64 begins with a hyphen.
    #[arg(allow_hyphen_values = true)]
    account: String,
}

/// Which one, and whether it is meant.
#[derive(Debug, Args)]
pub struct Deactivate {
    #[command(flatten)]
    which: Which,
    /// Do it; without, say what would be done.
    #[arg(long)]
    yes: bool,
}

pub fn run(command: &AccountCommand, context: &Context) -> Result<(), Failure> {
    let config = context.load()?;
    match command {
        AccountCommand::List => list(&config, context),
        AccountCommand::Show(which) => show(which, &config, context),
        AccountCommand::Deactivate(deactivate) => self::deactivate(deactivate, &config, context),
    }
}

fn ask(issuer: &mut Issuer, question: AccountQuestion) -> Result<AccountAnswer, Failure> {
    match issuer.ask(&AdminQuestion::Account(question))? {
        AdminAnswer::Account(answer) => Ok(answer),
        _ => Err(unexpected()),
    }
}

fn list(config: &Config, context: &Context) -> Result<(), Failure> {
    let mut issuer = Issuer::connect(config)?;
    let mut all: Vec<AccountStatus> = Vec::new();
    loop {
        let after = all.last().map(|last| last.account);
        match ask(&mut issuer, AccountQuestion::List { after })? {
            AccountAnswer::List(page) if page.is_empty() => break,
            AccountAnswer::List(page) => all.extend(page),
            _ => return Err(unexpected()),
        }
    }
    if context.json {
        return print_json(&all.iter().map(|status| described(status, None)).collect::<Vec<_>>());
    }
    print("ACCOUNT                 REGISTERED            STATE        TICKET")?;
    for status in &all {
        let ticket = status.ticket.as_deref().unwrap_or("-");
        let (account, registered) = (status.account, status.registered);
        print(&format!("{account}  {registered}  {:<11}  {ticket}", state(status)))?;
    }
    Ok(())
}

fn show(which: &Which, config: &Config, context: &Context) -> Result<(), Failure> {
    let account = which.id()?;
    let answer = ask(&mut Issuer::connect(config)?, AccountQuestion::Show(account))?;
    let AccountAnswer::Account(status) = answer else { return Err(unexpected()) };
    let url = Urls::new(&config.web.base_url).ok().map(|urls| urls.url(Resource::Account(account)));
    let described = described(&status, url.as_deref());
    if context.json {
        return print_json(&described);
    }
    for (key, value) in described.as_object().into_iter().flatten() {
        let value = match value {
            Value::Null => "-".to_owned(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        print(&format!("{key:<12} {value}"))?;
    }
    Ok(())
}

fn deactivate(deactivate: &Deactivate, config: &Config, context: &Context) -> Result<(), Failure> {
    let account = deactivate.which.id()?;
    confirm(
        deactivate.yes,
        &format!(
            "account {account} would end for ever; its certificates would stay, and its pending orders be cancelled"
        ),
    )?;
    let question = AccountQuestion::Deactivate(account);
    let AccountAnswer::Deactivated { ended, before } =
        ask(&mut Issuer::connect(config)?, question)?
    else {
        return Err(unexpected());
    };
    if context.json {
        return print_json(&json!({
            "account": account.to_string(), "deactivated": ended.at.to_string(), "before": before,
        }));
    }
    let word = if before { "it had ended already, on" } else { "deactivated" };
    print(&format!("{word} {}", ended.at))
}

impl Which {
    fn id(&self) -> Result<AccountId, Failure> {
        let id = self.account.rsplit('/').next().unwrap_or_default();
        id.parse().map_err(|_| {
            Failure::failed(format!(
                "CHY-ACCOUNT-UNKNOWN: {:?} is no account's id; `chancery account list` shows all",
                self.account
            ))
        })
    }
}

fn described(status: &AccountStatus, url: Option<&str>) -> Value {
    let thumbprint = hex(&status.thumbprint);
    let mut object = json!({
        "account": status.account.to_string(),
        "state": state(status),
        "registered": status.registered.to_string(),
        "key_changed": status.key_changed.map(|at| at.to_string()),
        "ended": status.ended.map(|ended| ended.at.to_string()),
        "ticket": status.ticket,
        "thumbprint": thumbprint,
        "jwk": status.jwk,
    });
    if let Some(url) = url {
        object["url"] = url.into();
    }
    object
}

/// The words of RFC 8555 section 7.1.6.
fn state(status: &AccountStatus) -> &'static str {
    match status.ended {
        None => "valid",
        Some(ended) if ended.by_operator => "revoked",
        Some(_) => "deactivated",
    }
}
