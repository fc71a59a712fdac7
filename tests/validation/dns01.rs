//! dns-01 (RFC 8555 section 8.4) and CAA (RFC 8659, RFC 8657) against dnsmasq.

use super::*;

/// dnsmasq with these options, and a resolver that asks it for everything.
async fn dnsmasq(options: &[String]) -> (Running, Arc<SystemResolver>) {
    let port = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let server = Command::new("dnsmasq")
        .args(["--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts"])
        .args(["--listen-address=127.0.0.1", "--bind-interfaces", "--pid-file=", "--local=/test/"])
        .args(["--user=", "--group=", "--txt-record=ready.test,yes"])
        .arg(format!("--port={port}"))
        .args(options)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("dnsmasq (images/packages.sh test installs it): {error}"));
    let server = Running(server);
    let zone = ZoneServers {
        zone: ".".to_owned(),
        servers: vec![SocketAddr::from(([127, 0, 0, 1], port))],
        tcp: false,
    };
    let resolver = SystemResolver::new(&Resolving {
        zones: vec![zone],
        timeout: Duration::from_millis(900),
        ..Resolving::default()
    })
    .unwrap();
    for _ in 0..100 {
        if resolver.txt("ready.test").await.is_ok() {
            return (server, Arc::new(resolver));
        }
        sleep(Duration::from_millis(50)).await;
    }
    panic!("dnsmasq does not answer");
}

async fn dns_01(resolver: Arc<SystemResolver>, name: &str) -> Observation {
    let validator = validator(settings(), resolver);
    observe(&validator, attempt(ChallengeType::Dns01, ("dns", name))).await
}

#[tokio::test]
async fn dnsmasq_s_records_are_read_as_they_stand() {
    let due = dns::txt_value(KEY_AUTHORIZATION);
    let (front, back) = due.split_at(20);
    let (_server, resolver) = dnsmasq(&[
        format!("--txt-record=_acme-challenge.one.test,{due}"),
        // Of several one is enough; one may be in pieces.
        format!("--txt-record=_acme-challenge.two.test,{SECRET}"),
        format!("--txt-record=_acme-challenge.two.test,{front},{back}"),
        "--txt-record=_acme-challenge.wrong.test,internal".to_owned(),
        "--txt-record=elsewhere.test,".to_owned() + &due,
        "--cname=_acme-challenge.alias.test,elsewhere.test".to_owned(),
        "--address=/empty.test/127.0.0.9".to_owned(),
    ])
    .await;
    for name in ["one.test", "two.test", "*.one.test", "alias.test"] {
        let observed = dns_01(resolver.clone(), name).await;
        assert!(matches!(observed, Observation::Matched { from: None, .. }), "{name} {observed:?}");
    }
    let problem = failed(dns_01(resolver.clone(), "wrong.test").await);
    assert_eq!(problem.kind, ProblemType::IncorrectResponse);
    assert!(problem.detail.contains("_acme-challenge.wrong.test"), "{}", problem.detail);
    for name in ["none.test", "empty.test"] {
        let problem = failed(dns_01(resolver.clone(), name).await);
        assert_eq!(problem.kind, ProblemType::Dns);
        assert!(problem.detail.contains(&format!("_acme-challenge.{name}")), "{}", problem.detail);
    }
}

#[tokio::test]
async fn long_chains_and_floods_of_records_are_refused() {
    let due = dns::txt_value(KEY_AUTHORIZATION);
    let mut options: Vec<String> =
        (0..400).map(|n| format!("--txt-record=_acme-challenge.flood.test,{SECRET}-{n}")).collect();
    options.push(format!("--txt-record=_acme-challenge.flood.test,{due}"));
    options.push(format!("--txt-record=end.test,{due}"));
    // Twelve names, each an alias of the next.
    options.push("--cname=_acme-challenge.chain.test,c1.test".to_owned());
    options.extend((1..11).map(|n| format!("--cname=c{n}.test,c{}.test", n + 1)));
    options.push("--cname=c11.test,end.test".to_owned());
    let (_server, resolver) = dnsmasq(&options).await;
    let problem = failed(dns_01(resolver.clone(), "flood.test").await);
    assert_eq!(problem.kind, ProblemType::Dns);
    assert!(problem.detail.contains("more records than"), "{}", problem.detail);
    let problem = failed(dns_01(resolver, "chain.test").await);
    assert_eq!(problem.kind, ProblemType::Dns);
    assert!(problem.detail.contains("alias (CNAME) of too many"), "{}", problem.detail);
}

#[tokio::test]
async fn caa_is_read_from_a_real_server() {
    let property = |name: &str, flags: u8, tag: &str, value: &str| {
        let data = [&[flags, tag.len() as u8], tag.as_bytes(), value.as_bytes()].concat();
        let data: String = data.iter().map(|octet| format!("{octet:02x}")).collect();
        format!("--dns-rr={name},257,{data}")
    };
    let due = dns::txt_value(KEY_AUTHORIZATION);
    let (_server, resolver) = dnsmasq(&[
        format!("--txt-record=_acme-challenge.a.mine.test,{due}"),
        format!("--txt-record=_acme-challenge.a.other.test,{due}"),
        format!("--txt-record=_acme-challenge.a.odd.test,{due}"),
        property("mine.test", 0, "issue", "ca.test; validationmethods=dns-01"),
        property("other.test", 0, "issue", "ca.other.example"),
        property("odd.test", 128, "future", "x"),
    ])
    .await;
    let settings = Settings {
        caa_zones: vec![".".to_owned()],
        caa_identities: vec!["ca.test".to_owned()],
        ..settings()
    };
    let validator = validator(settings, resolver);
    let ask =
        async |name: &str| observe(&validator, attempt(ChallengeType::Dns01, ("dns", name))).await;
    let mine = ask("a.mine.test").await;
    assert!(matches!(mine, Observation::Matched { .. }), "{mine:?}");
    for (name, says) in [("a.other.test", "do not permit"), ("a.odd.test", "critical property")] {
        let problem = failed(ask(name).await);
        assert_eq!(problem.kind, ProblemType::Caa);
        assert!(problem.detail.contains(says), "{}", problem.detail);
    }
}

/// A server that is silent costs an attempt, not more.
#[tokio::test]
async fn a_dns_server_that_says_nothing_runs_out_of_time() {
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let zone = ZoneServers {
        zone: ".".to_owned(),
        servers: vec![silent.local_addr().unwrap()],
        tcp: false,
    };
    let timeout = Duration::from_millis(300);
    let resolving = Resolving { zones: vec![zone], timeout, ..Resolving::default() };
    let resolver = Arc::new(SystemResolver::new(&resolving).unwrap());
    let problem = failed(dns_01(resolver, "a.test").await);
    assert!(matches!(problem.kind, ProblemType::Dns | ProblemType::Connection), "{problem:?}");
}
