// Package frames tests what govtop looks like and what it costs: it runs the built binary on a terminal, against a
// governor whose clock stands still.
//
//	fleet ─HTTP─► govtop, built, on a PTY ─► emulator ─► frame ─┬► SCENE.txt    text at every size
//	                 ▲ keys, sizes                              └► SCENE.style  colors in every theme
//
// A scene is a fleet and the keys that lead to a screen. TestFrames captures it at sizes from 59×14 (too small) to
// 200×50 and in every theme. The text of a frame must be the same in all themes, since color only repeats what words
// say; if it is not, the test fails before it compares anything. One command rewrites the files, and git shows the
// changes, one screen line per line:
//
//	go test ./cmd/govtop/frames -update
//
// govtop reaches its governor through the proxy of its environment, so that the address on the screen, governor.test,
// is the same in every run. No frame names a port of this machine or depends on the time of day: times on the screen
// are the fleet's, and the rest are ages of govtop's own connection.
//
// The benchmarks measure what an idle and a busy govtop cost, as a share of a core:
//
//	go test -run '^$' -bench . ./cmd/govtop/frames
package frames
