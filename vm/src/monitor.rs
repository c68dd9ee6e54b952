//! qemu's own control socket (QMP): what a person would do with the power switch and the disk cable.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::{Error, Result};

#[derive(Debug)]
pub struct Monitor {
    stream: BufReader<UnixStream>,
}

impl Monitor {
    pub fn open(socket: &Path) -> Result<Self> {
        let stream = UnixStream::connect(socket).map_err(Error::while_doing("connecting to qemu"))?;
        let mut monitor = Self { stream: BufReader::new(stream) };
        monitor.line()?;
        monitor.ask("qmp_capabilities", &json!({}))?;
        Ok(monitor)
    }

    pub fn ask(&mut self, command: &str, arguments: &Value) -> Result<Value> {
        let request = format!("{}\n", json!({ "execute": command, "arguments": arguments }));
        self.stream.get_mut().write_all(request.as_bytes()).map_err(Error::while_doing("asking qemu"))?;
        loop {
            let mut answer = self.line()?;
            if let Some(error) = answer.get("error") {
                return Err(Error::new(format!("qemu refused {command}: {error}")));
            }
            if let Some(value) = answer.get_mut("return") {
                return Ok(value.take());
            }
        }
    }

    /// Whether the guest runs now. One that was saved comes back stopped, as it was when it was saved.
    pub fn go_on(&mut self) -> Result<bool> {
        let status = self.ask("query-status", &json!({}))?;
        if status["status"] == "paused" {
            self.ask("cont", &json!({}))?;
        }
        Ok(status["running"] == true)
    }

    /// Writes the stopped guest's memory and devices to a file.
    pub fn save(&mut self, state: &Path) -> Result<()> {
        self.ask("stop", &json!({}))?;
        self.ask("migrate-set-parameters", &json!({ "max-bandwidth": 4_000_000_000_u64 }))?;
        self.ask("migrate", &json!({ "uri": format!("exec:cat > '{}'", state.display()) }))?;
        loop {
            let answer = self.ask("query-migrate", &json!({}))?;
            match answer.get("status").and_then(Value::as_str) {
                Some("completed") => return Ok(()),
                Some("failed" | "cancelled") => {
                    return Err(Error::new(format!("qemu could not save the guest: {answer}")));
                }
                Some(_) | None => std::thread::sleep(Duration::from_millis(50)),
            }
        }
    }

    /// What all disks together may do from now on; a slow disk is what makes memory trouble real.
    pub fn slow_disks(&mut self, operations_per_second: u32) -> Result<()> {
        for id in ["root", "swap"] {
            let most = u64::from(operations_per_second);
            let arguments = json!({ "device": id, "group": "disks", "bps": most * 65_536, "bps_rd": 0, "bps_wr": 0,
                "iops": most, "iops_rd": 0, "iops_wr": 0 });
            self.ask("block_set_io_throttle", &arguments)?;
        }
        Ok(())
    }

    fn line(&mut self) -> Result<Value> {
        let mut line = String::new();
        self.stream.read_line(&mut line).map_err(Error::while_doing("reading from qemu"))?;
        serde_json::from_str(&line).map_err(Error::while_doing("reading qemu's answer"))
    }
}
