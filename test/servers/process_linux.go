package servers

import (
	"os/exec"
	"syscall"
)

// dieWithParent lets the kernel kill the server if this process dies without cleaning up, as a test binary does at its
// time limit.
func dieWithParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
