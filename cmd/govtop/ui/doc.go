// Package ui draws governor's loops on a terminal: govtop's live screen and the plain table of govtop --once.
//
// The screen shows, it does not think. Everything on it is a view of what a governor's API says about itself. The
// package computes no control quantity, and reaches the network only through Source.
//
//	Source ──stream──► feed ──batches──► Model ──View──► header     who answers, who leads, what it depends on
//	 (I/O, in           (a frame's        │               overview   one line a loop, with its sparkline
//	  commands)          worth each)      │               detail     why the selected loop does what it does
//	                                      │               decisions  what governor decided and what people ordered
//	                                      │               health     the daemon, its servers, its writes
//	                                      │               form       what an order needs to be told
//	                                      └─ keys ◄────── footer     the key map, which is also the help screen
//
// The screen shows one moment: in the present the newest fleet; in a pause the fleet at the time of the key; in the
// past the daemon's answer for an instant. Each is a separate value: events change only the newest one, and everything
// else (charts, decisions, ages) is drawn up to the moment's own clock. The stream does not deliver the past of the
// loop on the screen or the log of all loops. They are fetched when a screen needs them, one request at a time
// (dossier), and the stream extends them.
//
// What the daemon says about a loop becomes a fact: a label and short items, the most important first. Facts are laid
// out last, when the available room is known. A chart works the same way: samples and a span of time, drawn onto a
// canvas of cells that knows three ways to draw a dot.
//
// Model is the only Bubble Tea model; header, overview and detail are plain values that return lines. Time comes with
// messages, so a frame is a function of the messages before it, and the same data draws the same frame: the renderer
// then writes nothing, and an idle govtop costs nothing. Times in a frame either come from the daemon's own clock (how
// long a loop has held) or appear only while no data arrives (how old the data is). If a connection ends, the Model
// makes it again, and shows when it will; the stream's sequence numbers close the gap.
//
// Strings in the data come from elsewhere: service names, errors of other servers. clean strips control characters from
// them once, on arrival.
package ui
