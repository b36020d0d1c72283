//go:build !unix

package main

// resumable says whether somebody could bring a suspended govtop back.
func resumable() bool { return false }
