// Package terminal runs a program on a pseudo-terminal and shows what a person would see: a terminal emulator obeys
// what the program prints, answers what it asks, and tells afterwards whether the program left everything as it was.
//
//	program ──prints──► PTY ──bytes, counted──► emulator ──► Screen  text and style
//	        ◄──keys, answers, sizes, signals── PTY ◄─────────── test
//
// The program gets a clean environment (Env), so that a frame depends on nothing of the machine it was taken on.
package terminal
