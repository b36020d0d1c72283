package servers

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

const (
	readyTimeout = 60 * time.Second // a start on a busy machine, Prometheus replaying its log included
	stopTimeout  = 10 * time.Second // from SIGTERM to SIGKILL
	pollEvery    = 50 * time.Millisecond
)

// Process is a command that can be started again with the same arguments: one of the servers, or any other binary that
// a test runs. Fill in the exported fields, then Start; do not change them afterwards. It is safe for concurrent use.
type Process struct {
	Name string   // for messages
	Path string   // of the binary
	Args []string // without the binary's own name
	Env  []string // added to this process's environment
	Log  string   // the file that its output is appended to
	// Ready returns nil once the process can be used. It is polled.
	Ready func(ctx context.Context) error

	mu   sync.Mutex
	cmd  *exec.Cmd
	done chan struct{} // closed when cmd has been waited for
}

// Start runs the command and waits until it is ready. If it exits before that, or is not ready in time, Start fails and
// leaves no process behind.
func (p *Process) Start(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd != nil {
		return fmt.Errorf("start %s: process %d is still running", p.Name, p.cmd.Process.Pid)
	}
	logFile, err := os.OpenFile(p.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer logFile.Close()
	cmd := exec.Command(p.Path, p.Args...)
	cmd.Stdout, cmd.Stderr = logFile, logFile
	cmd.Env = append(os.Environ(), p.Env...)
	dieWithParent(cmd)
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", p.Name, err)
	}
	done := make(chan struct{})
	go func() { cmd.Wait(); close(done) }()
	p.cmd, p.done = cmd, done

	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	for {
		attempt, cancelAttempt := context.WithTimeout(ctx, 2*time.Second)
		err := p.Ready(attempt)
		cancelAttempt()
		if err == nil {
			return nil
		}
		select {
		case <-done:
			p.cmd = nil
			return fmt.Errorf("start %s: it exited (%s) before it was ready; the end of %s:\n%s",
				p.Name, cmd.ProcessState, p.Log, p.LogTail())
		case <-ctx.Done():
			p.end(syscall.SIGKILL)
			return fmt.Errorf("start %s: not ready in time (%w); the end of %s:\n%s", p.Name, err, p.Log, p.LogTail())
		case <-time.After(pollEvery):
		}
	}
}

// end sends sig and waits until the process has gone; it uses SIGKILL if that takes longer than stopTimeout. It returns
// the exit code, -1 for a process that a signal ended or that was not running. Callers hold mu.
func (p *Process) end(sig syscall.Signal) int {
	if p.cmd == nil {
		return -1
	}
	// The process has not been waited for unless done is closed, so its id cannot belong to another process.
	p.cmd.Process.Signal(sig)
	select {
	case <-p.done:
	case <-time.After(stopTimeout):
		p.cmd.Process.Kill()
		<-p.done
	}
	code := p.cmd.ProcessState.ExitCode()
	p.cmd = nil
	return code
}

// Kill ends the process at once, like kill -9, and waits until it has gone. Killing a dead process does nothing.
func (p *Process) Kill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.end(syscall.SIGKILL)
}

// Stop ends the process with SIGTERM, or with SIGKILL if it ignores that, and waits until it has gone. It returns the
// exit code, -1 for a process that a signal ended or that was not running.
func (p *Process) Stop() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.end(syscall.SIGTERM)
}

// Pid returns the process id, 0 while it is down.
func (p *Process) Pid() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return 0
	}
	return p.cmd.Process.Pid
}

// RestartContext stops the process if it is running and starts it again, with the same ports and data. It returns when
// the process is ready. While another process holds one of the ports it retries.
func (p *Process) RestartContext(ctx context.Context) error {
	p.Stop()
	var err error
	for range startAttempts {
		if err = p.Start(ctx); err == nil || ctx.Err() != nil {
			return err
		}
	}
	return err
}

// startAttempts bounds how often a start is retried on other ports.
const startAttempts = 5

// startAnywhere builds and starts a process, on other ports if the start fails because one was taken meanwhile.
func startAnywhere(ctx context.Context, build func() (*Process, error)) (*Process, error) {
	var failed error
	for range startAttempts {
		p, err := build()
		if err != nil {
			return nil, err
		}
		if failed = p.Start(ctx); failed == nil {
			return p, nil
		}
		if ctx.Err() != nil || !bytes.Contains(p.LogTail(), []byte("address already in use")) {
			return nil, failed
		}
	}
	return nil, failed
}

// LogTail returns the last few kilobytes of the log.
func (p *Process) LogTail() []byte {
	const most = 4096
	f, err := os.Open(p.Log)
	if err != nil {
		return []byte(err.Error())
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.Size() > most {
		f.Seek(-most, io.SeekEnd)
	}
	b, _ := io.ReadAll(f)
	return b
}

// freePorts returns n distinct loopback ports on which both TCP and UDP are free now. They are below the usual ranges
// of ephemeral ports: otherwise the next client connection could take a killed server's port before the server comes
// back.
func freePorts(n int) ([]int, error) {
	const lowest, count = 12000, 18000
	var ports []int
	var held []io.Closer
	defer func() {
		for _, c := range held {
			c.Close()
		}
	}()
	for range 1000 {
		if len(ports) == n {
			return ports, nil
		}
		port := lowest + rand.IntN(count)
		address := fmt.Sprintf("127.0.0.1:%d", port)
		tcp, err := net.Listen("tcp", address)
		if err != nil {
			continue
		}
		held = append(held, tcp)
		udp, err := net.ListenPacket("udp", address)
		if err != nil {
			continue
		}
		held = append(held, udp)
		ports = append(ports, port)
	}
	return nil, errors.New("find free loopback ports: a thousand attempts failed")
}

// FreeAddress returns a loopback host:port that is free now and whose port is not ephemeral. It is for processes that
// must be told their port; processes that can listen on port 0 should do that.
func FreeAddress() (string, error) {
	ports, err := freePorts(1)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("127.0.0.1:%d", ports[0]), nil
}

// get fetches url and returns the status and the body.
func get(ctx context.Context, url string) (int, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, nil, err
	}
	resp, err := pollClient.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp.StatusCode, body, err
}

// pollClient keeps no connections, so that no goroutine outlives a poll and callers' tests can use goleak.
var pollClient = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
