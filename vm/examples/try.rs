use std::time::Duration;
fn main() {
    let mut args = std::env::args().skip(1);
    let swap: u32 = args.next().unwrap().parse().unwrap();
    let iops: u32 = args.next().unwrap().parse().unwrap();
    let mut g = node_guardian_vm::Machine { memory_mib: 1024, cpus: 2, swap_mib: swap, disk_iops: (iops > 0).then_some(iops) }.start().unwrap();
    eprintln!("started");
    for a in args {
        if let Some((l, r)) = a.strip_prefix("put:").and_then(|x| x.split_once(':')) { g.put(l.as_ref(), r).unwrap(); eprintln!("put"); continue; }
        let t = std::time::Instant::now();
        match g.run(&a, Duration::from_secs(60)) { Ok(o) => println!("$ {a}\n{}[{} {:?}]", o.text, o.status, t.elapsed()), Err(e) => println!("$ {a}: {e}\n{}", g.console()) }
    }
}
