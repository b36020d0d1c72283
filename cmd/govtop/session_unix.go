//go:build unix

package main

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// resumable says whether somebody could bring a suspended govtop back: whether a shell with job control has started it.
// Such a shell gives each job a process group of its own and stays outside of it, in the same session. Without one, as in
// `tmux new govtop` or `ssh -t host govtop`, a suspended program is dead to every key.
func resumable() bool {
	group := unix.Getpgrp()
	session, err := unix.Getsid(0)
	for pid := os.Getppid(); err == nil && pid > 1; pid = parent(pid) {
		its, err := unix.Getpgid(pid)
		if err != nil {
			return false
		}
		if its != group { // else a wrapper, like sudo or a script: its own parent decides
			its, err := unix.Getsid(pid)
			return err == nil && its == session
		}
	}
	return false
}

// parent returns the parent of a process; 0 if it is not known.
func parent(pid int) int {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	// The name of the program, in parentheses, may hold anything.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) < 2 {
		return 0
	}
	id, _ := strconv.Atoi(fields[1])
	return id
}
