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

// process is one server: a command that can be started again with the same arguments.
type process struct {
	name    string
	path    string
	args    []string
	logPath string
	ready   func(ctx context.Context) error // nil once the server can be used

	mu   sync.Mutex
	cmd  *exec.Cmd
	done chan struct{} // closed when cmd has been waited for
}

// start runs the command and waits until it is ready. If it exits before that, or is not ready in time, start fails and
// no process is left behind.
func (p *process) start(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd != nil {
		return fmt.Errorf("start %s: process %d is still running", p.name, p.cmd.Process.Pid)
	}
	logFile, err := os.OpenFile(p.logPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer logFile.Close()
	cmd := exec.Command(p.path, p.args...)
	cmd.Stdout, cmd.Stderr = logFile, logFile
	dieWithParent(cmd)
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	done := make(chan struct{})
	go func() { cmd.Wait(); close(done) }()
	p.cmd, p.done = cmd, done

	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	for {
		attempt, cancelAttempt := context.WithTimeout(ctx, 2*time.Second)
		err := p.ready(attempt)
		cancelAttempt()
		if err == nil {
			return nil
		}
		select {
		case <-done:
			p.cmd = nil
			return fmt.Errorf("start %s: it exited (%s) before it was ready; the end of %s:\n%s",
				p.name, cmd.ProcessState, p.logPath, p.logTail())
		case <-ctx.Done():
			p.signal(syscall.SIGKILL)
			return fmt.Errorf("start %s: not ready in time (%w); the end of %s:\n%s", p.name, err, p.logPath, p.logTail())
		case <-time.After(pollEvery):
		}
	}
}

// signal sends sig and waits until the process has gone, by SIGKILL if it takes longer than stopTimeout. Callers
// hold mu.
func (p *process) signal(sig syscall.Signal) {
	if p.cmd == nil {
		return
	}
	// The process has not been waited for unless done is closed, so its id cannot belong to another.
	p.cmd.Process.Signal(sig)
	select {
	case <-p.done:
	case <-time.After(stopTimeout):
		p.cmd.Process.Kill()
		<-p.done
	}
	p.cmd = nil
}

// Kill ends the server at once, as kill -9 does, and waits until it has gone. Killing a dead server does nothing.
func (p *process) Kill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.signal(syscall.SIGKILL)
}

// Stop ends the server by SIGTERM, and by SIGKILL if that is ignored, and waits until it has gone.
func (p *process) Stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.signal(syscall.SIGTERM)
}

// Pid returns the process id, 0 while the server is down.
func (p *process) Pid() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return 0
	}
	return p.cmd.Process.Pid
}

// LogPath names the file that holds the server's output.
func (p *process) LogPath() string { return p.logPath }

// restart starts the server again on its ports and data. While somebody else holds one of the ports it keeps trying.
func (p *process) restart(ctx context.Context) error {
	p.Stop()
	var err error
	for range startAttempts {
		if err = p.start(ctx); err == nil || ctx.Err() != nil {
			return err
		}
	}
	return err
}

// startAttempts bounds how often a start is repeated on other ports.
const startAttempts = 5

// startAnywhere builds and starts a process, on other ports when the start fails because one was taken meanwhile.
func startAnywhere(ctx context.Context, build func() (*process, error)) (*process, error) {
	var failed error
	for range startAttempts {
		p, err := build()
		if err != nil {
			return nil, err
		}
		if failed = p.start(ctx); failed == nil {
			return p, nil
		}
		if ctx.Err() != nil || !bytes.Contains(p.logTail(), []byte("address already in use")) {
			return nil, failed
		}
	}
	return nil, failed
}

// logTail returns the last few kilobytes of the log.
func (p *process) logTail() []byte {
	const most = 4096
	f, err := os.Open(p.logPath)
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

// freePorts returns n distinct loopback ports on which both TCP and UDP are free now. They lie below the ranges that the
// usual systems take the local ends of connections from: a killed server's port would otherwise be lost to the next
// client connection, before the server comes back.
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

// FreePort returns a loopback port that is free now and that no client connection will take as its local end. It is for
// processes that must be told their port; whatever can listen on port 0 should.
func FreePort() (int, error) {
	ports, err := freePorts(1)
	if err != nil {
		return 0, err
	}
	return ports[0], nil
}

// get fetches url and returns status and body.
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

// pollClient keeps no connection, so that no goroutine outlives a poll and goleak stays usable in callers' tests.
var pollClient = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
