package main

import (
	"errors"
	"net"
	"sync"
	"time"
)

// link is the way from one node to an address of another: a TCP proxy whose two
// directions can be cut and delayed separately. What it carries is TLS, so it can
// hold bytes back or end a connection, and nothing else.
//
// Invariants:
//   - A cut direction delivers nothing. Its bytes wait, as in a network that loses
//     packets, until it is healed or the connection ends.
//   - Bytes of a connection never change their order.
type link struct {
	from, to string // node ids
	target   string // host:port
	listener net.Listener
	outages  *outages // nil: nobody asks

	mu      sync.Mutex
	changed chan struct{}     // closed and replaced with each change
	faults  map[int]linkState // that are on it now, by number
	state   linkState         // all of them together
	conns   map[net.Conn]struct{}
	closed  bool
}

// linkState is what a link does to what passes.
type linkState struct {
	there, back bool          // cut: towards the target, and from it
	reset       bool          // connections end, and none is made, while a direction is cut
	delay       time.Duration // of everything
}

func newLink(from, to, target string) (*link, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // binding a local address does not block.
	if err != nil {
		return nil, err
	}
	l := &link{from: from, to: to, target: target, listener: listener,
		changed: make(chan struct{}), faults: make(map[int]linkState), conns: make(map[net.Conn]struct{})}
	go l.accept()
	return l, nil
}

func (l *link) address() string { return l.listener.Addr().String() }

// set puts a fault on the link, by its number.
func (l *link) set(number int, s linkState) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.faults[number] = s
	l.settle()
}

// heal takes a fault from the link.
func (l *link) heal(number int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.faults, number)
	l.settle()
}

// settle adds the faults up; a reset ends what is connected. The caller holds mu.
func (l *link) settle() {
	var sum linkState
	for _, s := range l.faults {
		sum.there, sum.back, sum.delay = sum.there || s.there, sum.back || s.back, max(sum.delay, s.delay)
		sum.reset = sum.reset || s.reset && (s.there || s.back)
	}
	if sum == l.state {
		return
	}
	l.state = sum
	if l.outages != nil {
		l.outages.end(l)
		if sum != (linkState{}) {
			l.outages.begin(l, l.from, l.to)
		}
	}
	close(l.changed)
	l.changed = make(chan struct{})
	if sum.reset {
		l.drop()
	}
}

// drop ends all connections. The caller holds mu.
func (l *link) drop() {
	for c := range l.conns {
		_ = c.Close() // that is the point
	}
	clear(l.conns)
}

func (l *link) close() error {
	l.mu.Lock()
	l.closed = true
	close(l.changed)
	l.changed = make(chan struct{})
	l.drop()
	l.mu.Unlock()
	return l.listener.Close()
}

func (l *link) now() (linkState, <-chan struct{}, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state, l.changed, l.closed
}

// keep remembers a connection so that it can be ended; false when it is to end.
func (l *link) keep(c net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || l.state.reset {
		return false
	}
	l.conns[c] = struct{}{}
	return true
}

func (l *link) accept() {
	for {
		c, err := l.listener.Accept()
		if err != nil {
			return // closed
		}
		go l.carry(c)
	}
}

// carry joins an accepted connection with one to the target.
func (l *link) carry(near net.Conn) {
	defer near.Close()
	if !l.keep(near) {
		return
	}
	far, err := net.DialTimeout("tcp", l.target, 5*time.Second) //nolint:noctx // bounded by its time-out.
	if err != nil {
		return // nobody listens: the caller sees the connection end
	}
	defer far.Close()
	if !l.keep(far) {
		return
	}
	var both sync.WaitGroup
	both.Go(func() { l.pipe(far, near, func(s linkState) bool { return s.there }) })
	both.Go(func() { l.pipe(near, far, func(s linkState) bool { return s.back }) })
	both.Wait()
	l.mu.Lock()
	delete(l.conns, near)
	delete(l.conns, far)
	l.mu.Unlock()
}

// piece is bytes on their way, and when they arrive.
type piece struct {
	bytes []byte
	due   time.Time
}

// underWay bounds the pieces that a direction holds; then it reads no more, as a
// full window would have it.
const underWay = 256

// pipe carries one direction until it ends, then ends both.
func (l *link) pipe(to, from net.Conn, cut func(linkState) bool) {
	pieces := make(chan piece, underWay)
	done := make(chan struct{})
	go func() {
		defer close(pieces)
		for {
			b := make([]byte, 32<<10)
			n, err := from.Read(b)
			if n > 0 {
				s, _, _ := l.now()
				select {
				case pieces <- piece{bytes: b[:n], due: time.Now().Add(s.delay)}:
				case <-done:
					return
				}
			}
			if err != nil {
				return
			}
		}
	}()
	defer close(done)
	for p := range pieces {
		if late := time.Until(p.due); late > 0 {
			<-time.After(late)
		}
		if !l.await(cut) {
			break
		}
		if _, err := to.Write(p.bytes); err != nil {
			break
		}
	}
	// A half-closed connection is of no use to TLS.
	_ = errors.Join(to.Close(), from.Close())
}

// await returns once the direction is open; false when the link is closed.
func (l *link) await(cut func(linkState) bool) bool {
	for {
		s, changed, closed := l.now()
		if closed {
			return false
		}
		if !cut(s) {
			return true
		}
		<-changed
	}
}
