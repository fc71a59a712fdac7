//! The two processes as a service manager starts them: what they tell it (sd_notify(3)), and what becomes of
//! connections when the web process is replaced by another at the sockets that are given to both (sd_listen_fds(3)).

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "support/plant.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "shared by several test programs"
)]
mod plant;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use plant::Plant;
use plant::lab::{self, Lab, Options, pause};

/// A process of the box, which ends with the value.
struct Process(Child);

impl Process {
    fn start(command: &mut Command) -> Self {
        Self(command.spawn().unwrap())
    }

    /// Asks it to end; it must end as it should.
    fn end(&mut self) {
        lab::signal(self.0.id(), "TERM");
        assert!(self.0.wait().unwrap().success());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The service manager's end of $NOTIFY_SOCKET.
struct Told(UnixDatagram);

impl Told {
    fn listen(lab: &Lab, name: &str) -> Self {
        let socket = UnixDatagram::bind(lab.dir.join(name)).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        Self(socket)
    }

    /// The next message that has `what` in it.
    fn wait(&self, what: &str) -> String {
        let mut message = [0; 1024];
        loop {
            let read = self.0.recv(&mut message).unwrap_or_else(|error| panic!("{what}: {error}"));
            let message = String::from_utf8_lossy(&message[..read]);
            if message.contains(what) {
                return message.into_owned();
            }
        }
    }
}

/// The web process at sockets that this test listens on: descriptors 3 and 4, as systemd hands them over. The shell is
/// what systemd is between fork and exec.
fn web_at(lab: &Lab, https: &TcpListener, http: &TcpListener) -> Command {
    let give = |listener: &TcpListener| Stdio::from(OwnedFd::from(listener.try_clone().unwrap()));
    let script = r#"exec 3<&0 4<&1 0</dev/null 1>&2; LISTEN_PID=$$ LISTEN_FDS=2 exec "$0" "$@""#;
    let log = std::fs::File::options().create(true).append(true).open(lab.dir.join("serve.log"));
    let mut command = lab.chancery_under("sh", &["-c", script]);
    command.arg("web").stdin(give(https)).stdout(give(http)).stderr(log.unwrap());
    command
}

fn issuer(lab: &Lab) -> Command {
    let log = std::fs::File::options().create(true).append(true).open(lab.dir.join("serve.log"));
    let mut command = lab.chancery();
    command.arg("issuer").stdin(Stdio::null()).stdout(Stdio::null()).stderr(log.unwrap());
    command
}

#[test]
fn both_processes_tell_the_service_manager_that_they_are_ready_and_alive() {
    let plant = Plant::prepare(Options::default());
    let lab = &plant.lab;
    let (of_issuer, of_web) = (Told::listen(lab, "issuer.notify"), Told::listen(lab, "web.notify"));
    let with = |mut command: Command, name: &str| {
        command.env("NOTIFY_SOCKET", lab.dir.join(name)).env("WATCHDOG_USEC", "900000");
        Process::start(&mut command)
    };
    let mut issuer = with(issuer(lab), "issuer.notify");
    assert!(of_issuer.wait("READY=1").contains("STATUS="));
    // The web process is confined by now, and still reaches the service manager.
    let mut web = with(
        {
            let mut command = lab.chancery();
            command.arg("web").stdin(Stdio::null()).stderr(Stdio::null());
            command
        },
        "web.notify",
    );
    of_web.wait("READY=1");
    assert!(of_web.wait("the issuer is ready").contains("WATCHDOG=1\nSTATUS=serving"));
    let status = of_issuer.wait("issuing; token ready");
    assert!(status.contains("WATCHDOG=1\n") && status.contains(" records, covered "), "{status}");

    issuer.end();
    of_issuer.wait("STOPPING=1");
    // Alone it lives on, and says what is the matter.
    assert!(of_web.wait("the issuer does not answer").contains("WATCHDOG=1\n"));
    web.end();
    of_web.wait("STOPPING=1");
}

/// As in two containers: neither sees the other's process, and the kernel gives it no number.
#[test]
fn processes_in_containers_of_their_own_know_each_other_by_their_users() {
    let plant = Plant::prepare(Options::default());
    let apart = |role: &str| {
        let user = "--user --map-current-user --pid --fork --kill-child";
        let arguments: Vec<&str> = user.split(' ').collect();
        let mut command = plant.lab.chancery_under("unshare", &arguments);
        let log = plant.lab.dir.join("serve.log");
        let log = std::fs::File::options().append(true).create(true).open(log).unwrap();
        command.arg(role).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        Process::start(&mut command)
    };
    let (_issuer, _web) = (apart("issuer"), apart("web"));
    plant.lab.wait_ready(Duration::from_secs(30));
    let mut client = plant.registered();
    plant.enrol(&mut client, &["contained.plant.lan"]);
}

#[test]
fn no_connection_is_lost_while_the_web_process_is_replaced() {
    let plant = Plant::prepare(Options::default());
    let lab = &plant.lab;
    let (https, http) =
        (TcpListener::bind(lab.acme).unwrap(), TcpListener::bind(lab.http).unwrap());
    let mut issuer = Process::start(&mut issuer(lab));
    let mut web = Process::start(&mut web_at(lab, &https, &http));
    lab.wait_ready(Duration::from_secs(30));

    // Two clients that connect anew for every request and take no excuse; one of them speaks late.
    let going = Arc::new(AtomicBool::new(true));
    let (sender, answers) = mpsc::channel();
    let clients: Vec<_> = [Duration::ZERO, Duration::from_millis(30)]
        .into_iter()
        .map(|late| {
            let (going, sender, address) = (going.clone(), sender.clone(), lab.http);
            std::thread::spawn(move || {
                while going.load(Ordering::SeqCst) {
                    sender.send(ask(address, late)).unwrap();
                }
            })
        })
        .collect();
    let device = plant.registered();
    for _ in 0..3 {
        pause(Duration::from_millis(200));
        web.end();
        // Nobody accepts now: who comes waits.
        let (address, waiting) = (lab.http, std::thread::spawn);
        let waiting = waiting(move || ask(address, Duration::ZERO));
        pause(Duration::from_millis(100));
        web = Process::start(&mut web_at(lab, &https, &http));
        assert_eq!(waiting.join().unwrap(), Ok(()));
    }
    // TLS too: a handshake that begins while nobody accepts.
    web.end();
    let runtime = plant.runtime.clone();
    let mut device = device;
    let order = std::thread::spawn(move || {
        runtime
            .block_on(device.order(&["restarted.lab.test"]))
            .map(drop)
            .map_err(|failure| format!("{failure:?}"))
    });
    pause(Duration::from_millis(100));
    web = Process::start(&mut web_at(lab, &https, &http));
    assert_eq!(order.join().unwrap(), Ok(()));

    going.store(false, Ordering::SeqCst);
    clients.into_iter().for_each(|client| client.join().unwrap());
    drop(sender);
    let answers: Vec<Result<(), String>> = answers.into_iter().collect();
    assert!(answers.len() > 20, "{}", answers.len());
    let lost: Vec<_> = answers.iter().filter(|answer| answer.is_err()).collect();
    assert!(
        lost.is_empty(),
        "{} of {}: {:?}\n{}",
        lost.len(),
        answers.len(),
        lost[0],
        lab.log_tail()
    );
    web.end();
    issuer.end();
}

/// One request on a connection of its own, sent `late` after it stands.
fn ask(address: std::net::SocketAddr, late: Duration) -> Result<(), String> {
    let told = |error: std::io::Error| error.to_string();
    let mut stream = TcpStream::connect(address).map_err(told)?;
    stream.set_read_timeout(Some(Duration::from_secs(20))).map_err(told)?;
    pause(late);
    stream
        .write_all(b"GET /healthz HTTP/1.1\r\nHost: box\r\nConnection: close\r\n\r\n")
        .map_err(told)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(told)?;
    if answer.starts_with("HTTP/1.1 200") { Ok(()) } else { Err(format!("answered {answer:?}")) }
}

#[test]
fn a_socket_that_the_configuration_does_not_name_stops_the_start() {
    let plant = Plant::prepare(Options::default());
    let lab = &plant.lab;
    let (https, stray) =
        (TcpListener::bind(lab.acme).unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
    let mut web = Process::start(&mut web_at(lab, &https, &stray));
    assert_eq!(web.0.wait().unwrap().code(), Some(78));
    let said = lab.log_tail();
    assert!(said.contains("CHY-PORT-GIVEN"), "{said}");
    assert!(said.contains(&stray.local_addr().unwrap().to_string()), "{said}");
}
