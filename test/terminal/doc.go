// Package terminal runs a program on a pseudo-terminal and shows what a person would see. A terminal emulator
// interprets the program's output, answers its queries, and checks afterwards whether the program left everything as it
// was.
//
//	program ──prints──► PTY ──bytes, counted──► emulator ──► Screen  text and style
//	        ◄──keys, answers, sizes, signals── PTY ◄─────────── test
//
// The program gets a clean environment (Env), so that a frame does not depend on the machine.
package terminal
