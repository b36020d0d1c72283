// Package ui draws governor's loops on a terminal: govtop's live screen and the plain table of govtop --once.
//
// The screen shows, it does not think. Everything on it is a view of what a governor's API says about itself; the
// package computes no control quantity, and learns of the network only through Source.
//
//	Source ──stream──► feed ──batches──► Model ──View──► header     who answers, who leads, what it depends on
//	 (I/O, in           (a frame's        │               overview   one line a loop, with its sparkline
//	  commands)          worth each)      │               detail     why the selected loop does what it does
//	                                      │               decisions  what governor decided and what people ordered
//	                                      │               health     the daemon, its servers, its writes
//	                                      │               form       what an order needs to be told
//	                                      └─ keys ◄────── footer     the key map, which is also the help screen
//
// The screen shows one moment. In the present that is the newest fleet; in a pause the fleet that stood there when the key
// was pressed; in the past what the daemon answered for an instant. Each is a value of its own: events go on changing the
// newest one alone, and whatever else is drawn, charts, decisions, ages, is drawn up to the moment's own clock. What
// the stream does not tell, the past of the loop on the screen, the log of all loops, is asked for when a screen needs it,
// one question at a time (dossier), and goes on with the stream.
//
// What the daemon says about a loop passes through fact: a label and short items, the most telling first, which are laid
// out last, when it is known how much room there is. A chart goes the same way: samples and a span of time, drawn onto a
// canvas of cells that knows three ways to make a dot.
//
// Model is the only Bubble Tea model; header, overview and detail are plain values that it asks for lines. Time comes
// with messages, so a frame is a function of the messages before it, and the same data draws the same frame: the
// renderer then writes nothing, and an idle govtop costs nothing. What a frame says about time is either the daemon's
// own clock (how long a loop has held) or appears only while no data comes (how old the data is). A connection that
// ends is the Model's to make again, which shows when it will; the stream's sequence numbers make up for the gap.
//
// Strings in the data come from elsewhere: service names, errors of other servers. They are stripped of control
// characters at the door, once, by clean.
package ui
