//! Two roots, each on a box of its own that is never online, and the box that serves, which has neither key: what is
//! carried between the three is files.

use std::path::{Path, PathBuf};

use crate::plant::Plant;
use crate::plant::lab::{Lab, Options, chancery, done, refused};
use crate::{Scene, shipped, write};

fn text(path: PathBuf) -> String {
    path.to_str().unwrap().to_owned()
}

/// A box that is never online, after its root's ceremony; the root's file.
fn offline(dir: &Path, number: &str) -> (Lab, String) {
    let lab = Lab::without_ceremony(dir, &Options::default());
    let mut file = shipped("root-offline");
    if number != "1" {
        for (from, to) in [
            ("LAN Root\"", format!("LAN Root {number}\"")),
            ("LAN Issuing CA 1", format!("LAN Issuing CA {number}")),
            ("/root.crl", format!("/root-{number}.crl")),
            ("/issuing.", format!("/issuing-{number}.")),
        ] {
            assert!(file.contains(from), "{from} does not stand in root-offline.toml");
            file = file.replace(from, &to);
        }
    }
    let file = write(&lab.dir, "root-offline", &file);
    done(chancery(&lab, &["ceremony", "run", &file, "--yes"]));
    (lab, file)
}

/// The root on this box signs a request.
fn signed(lab: &Lab, file: &str, request: &str) -> String {
    done(chancery(lab, &["ceremony", "sign-request", file, "--request", request, "--yes"]));
    text(lab.dir.join("issuing.pem"))
}

fn published(lab: &Lab, file: &str) -> String {
    text(lab.dir.join("state/public").join(file))
}

#[test]
fn a_root_elsewhere_takes_over_from_a_root_elsewhere() {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let (one, one_file) = offline(dirs[0].path(), "1");
    let (two, two_file) = offline(dirs[1].path(), "2");
    let (root, root_2) = (published(&one, "root.pem"), published(&two, "root.pem"));

    // The box that serves, below the first root.
    let mut plant = Plant::without_ceremony(Options::default());
    let lab = &mut plant.lab;
    let file = write(&lab.dir, "issuing-online", &shipped("issuing-online"));
    done(chancery(lab, &["ceremony", "export-request", &file, "--root", &root, "--yes"]));
    let certificate = signed(&one, &one_file, &text(lab.dir.join("issuing.csr")));
    let crl = published(&one, "crl/root.crl");
    let import = ["--certificate", &certificate, "--root-crl", &crl, "--yes"];
    done(chancery(lab, &[&["ceremony", "import", &file][..], &import].concat()));
    lab.serve();
    let mut scene = Scene::of(plant);
    scene.order("before");

    // Each root signs the other, by the same file.
    let file = shipped("root-2").replace("\"ROOT-TOKEN\"", "\"chancery\"");
    let file = write(&scene.dir, "root-2", &file);
    let sign = |lab: &Lab, other: &str, more: &[&str]| {
        let sign = ["ceremony", "sign-cross", &file, "--root", other];
        chancery(lab, &[&sign[..], more].concat())
    };
    refused(&sign(&one, &root_2, &[]), "CHY-CONFIRM");
    for (lab, other) in [(&one, &root_2), (&two, &root)] {
        let told = done(sign(lab, other, &["--rehearse"]));
        assert!(told.starts_with("REHEARSAL") && !lab.dir.join("cross.pem").exists(), "{told}");
    }
    done(sign(&one, &root_2, &["--yes"]));
    done(sign(&two, &root, &["--yes"]));
    let (by_former, of_former) = (text(one.dir.join("cross.pem")), text(two.dir.join("cross.pem")));
    // Not itself, not what is no root, and not where there is no root key.
    refused(&sign(&one, &root, &["--yes"]), "CHY-CEREMONY-FILE");
    refused(&sign(&one, &certificate, &["--yes"]), "CHY-CEREMONY-IMPORT");
    refused(&sign(&scene.plant.lab, &root_2, &["--yes"]), "CHY-CA-ABSENT");

    let crl = published(&two, "crl/root-2.crl");
    let take = |scene: &Scene, by_former: &str, of_former: &str, more: &[&str]| {
        let import = ["ceremony", "import-root", &file, "--root", &root_2, "--root-crl", &crl];
        let ties = ["--by-former", by_former, "--of-former", of_former];
        chancery(&scene.plant.lab, &[&import[..], &ties, more].concat())
    };
    let before = std::fs::read(scene.plant.lab.dir.join("state/ca/authority.json")).unwrap();
    refused(&take(&scene, &by_former, &of_former, &[]), "CHY-CONFIRM");
    refused(&take(&scene, &of_former, &by_former, &["--yes"]), "CHY-CEREMONY-IMPORT");
    refused(&take(&scene, &root_2, &of_former, &["--yes"]), "CHY-CEREMONY-IMPORT");
    refused(&take(&scene, &by_former, &root, &["--yes"]), "CHY-CEREMONY-IMPORT");
    let told = done(take(&scene, &by_former, &of_former, &["--rehearse"]));
    assert!(told.starts_with("REHEARSAL") && told.contains("import-root"), "{told}");
    refused(&take(&scene, &of_former, &by_former, &["--rehearse"]), "CHY-CEREMONY-IMPORT");
    let after = std::fs::read(scene.plant.lab.dir.join("state/ca/authority.json")).unwrap();
    assert_eq!(before, after, "what was refused changed something");
    let told = done(take(&scene, &by_former, &of_former, &["--yes"]));
    assert!(told.contains("import-root") && told.contains("Restart both"), "{told}");
    refused(&take(&scene, &by_former, &of_former, &["--yes"]), "CHY-CEREMONY-DONE");

    scene.restart();
    for file in ["root-2.pem", "root-2-by-root.pem", "root-by-root-2.pem"] {
        scene.fetch(file);
    }
    let read = |path: &Path| std::fs::read_to_string(path).unwrap();
    assert_eq!(read(&scene.dir.join("root-2.pem")), read(Path::new(&root_2)));
    assert_eq!(scene.order("between").len(), 3);
    assert!(scene.verifies("root.pem", "between-0.pem", "between.pem"));
    assert!(!scene.verifies("root-2.pem", "between-0.pem", "between.pem"));
    assert!(scene.verifies("root-2.pem", "between-2.pem", "between.pem"), "by the new root's word");

    // An issuing CA below the new root.
    let second = shipped("issuing-2");
    let (head, rest) = second.split_once("\n[tokens.root]\n").unwrap();
    let urls = rest.split_once("\n[urls]\n").unwrap().1.split_once("\n[issuing]\n").unwrap().0;
    let second = write(&scene.dir, "issuing-2", &format!("{head}\n[urls]\n{urls}"));
    done(chancery(&scene.plant.lab, &["ceremony", "add-issuer", &second, "--yes"]));
    let certificate = signed(&two, &two_file, &text(scene.plant.lab.dir.join("issuing.csr")));
    let import = ["ceremony", "import-issuer", &second, "--certificate", &certificate, "--yes"];
    done(chancery(&scene.plant.lab, &import));
    scene.restart();
    assert_eq!(scene.order("after").len(), 3);
    assert!(scene.verifies("root.pem", "after-0.pem", "after.pem"), "for devices of the former");
    assert!(scene.verifies("root-2.pem", "after-0.pem", "after.pem"), "and for new ones");
    assert!(scene.verifies("root-2.pem", "after-1.pem", "after.pem"));
    assert!(!scene.verifies("root.pem", "after-1.pem", "after.pem"));

    // Each root's next CRL finds its way.
    for (lab, file) in [(&one, &one_file), (&two, &two_file)] {
        done(chancery(lab, &["ceremony", "root-crl", file, "--out", "next.crl", "--yes"]));
        let next = text(lab.dir.join("next.crl"));
        done(chancery(&scene.plant.lab, &["ceremony", "import-root-crl", &next, "--yes"]));
    }
    let finish = chancery(&scene.plant.lab, &["ceremony", "finish-root", &file, "--yes"]);
    refused(&finish, "CHY-ROOT-BUSY");
    let listed = done(chancery(&scene.plant.lab, &["log", "list", "--kind", "root"]));
    assert!(listed.contains("another root, root-2"), "{listed}");
    done(chancery(&scene.plant.lab, &["log", "verify"]));
}
