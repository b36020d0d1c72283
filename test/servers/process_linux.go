package servers

import (
	"os/exec"
	"syscall"
)

// dieWithParent has the kernel kill the server when this process dies without cleaning up, as a test binary does when
// it runs into its time limit.
func dieWithParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
