// Package frames holds what govtop looks like, and what it costs: tests of the built binary on a terminal, against a
// governor whose clock stands still.
//
//	fleet ─HTTP─► govtop, built, on a PTY ─► emulator ─► frame ─┬► SCENE.txt    text at every size
//	                 ▲ keys, sizes                              └► SCENE.style  colors in every theme
//
// A scene is a fleet and the keys that lead to a screen. TestFrames takes it at sizes from 59×14 (too small) to
// 200×50 and in every theme. The text of a frame must be the same in all themes, since color only repeats what words say;
// where it is not, the test fails before anything is compared. One command rewrites the files, and git shows what has
// changed, a screen line a line:
//
//	go test ./cmd/govtop/frames -update
//
// govtop reaches its governor through the proxy of its environment, so that the address on the screen, governor.test,
// is the same in every run. It names no port of this machine, and no frame depends on the time of day: the times on it
// are the fleet's, the rest are ages of its own connection.
//
// The benchmarks say what an idle and a busy govtop cost, as a share of a core:
//
//	go test -run '^$' -bench . ./cmd/govtop/frames
package frames
