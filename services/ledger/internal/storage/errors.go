package storage

import (
	"errors"
	"fmt"
	"strings"

	"github.com/lacre-metrology/lacre/core/digest"
)

var (
	// ErrNoRawVector says that the leaf was committed without a raw vector:
	// it is no measurement.
	ErrNoRawVector = errors.New("leaf has no raw vector")
	// ErrNotStored says that an index, height or node lies beyond what is committed.
	ErrNotStored = errors.New("not stored")
	// ErrReadOnly says that the store was opened with OpenReadOnly.
	ErrReadOnly = errors.New("store is open for reading only")
	// ErrClosed says that the store was closed.
	ErrClosed = errors.New("store is closed")
	// ErrScarce says that a file could not be opened because the process or the
	// system has too many open, or no memory. Nothing is wrong with the file.
	ErrScarce = errors.New("the system has no file or memory to spare at the moment")
)

// BatchError says that a batch does not extend what is committed. It is a
// fault of the caller; nothing of the batch was written.
type BatchError struct {
	Height  uint64 // of the block at fault, or of the newest block
	Problem string // both sides of the disagreement
}

func (e *BatchError) Error() string {
	return fmt.Sprintf("batch refused at block %d: %s", e.Height, e.Problem)
}

// PoisonedError says that an earlier write failed, so that nobody knows what
// the disk holds until the store is opened again.
type PoisonedError struct {
	Cause error // the first failure
}

func (e *PoisonedError) Error() string {
	return fmt.Sprintf("store accepts no more writes until it is opened again, because one failed: %v", e.Cause)
}

func (e *PoisonedError) Unwrap() error { return e.Cause }

// None stands for "not of one block" and "not of one record" in a DataLossError.
const None = -1

// DataLossError names bytes that were committed and are now missing or other
// bytes. It is never repaired here: the replica stops, an operator decides.
type DataLossError struct {
	Height int64         // the block, or None
	Index  int64         // the record's index in the log, or None
	File   string        // relative to the store's directory
	Offset int64         // where in the file the damaged unit (frame, value, page) begins, or None
	What   string        // what was found
	Want   digest.Digest // what was committed; zero where no digest covers the bytes
	Got    digest.Digest // what the disk holds now; zero if nothing could be read
	Cause  error         // the read error, if there was one
}

func (e *DataLossError) Error() string {
	var b strings.Builder
	b.WriteString("data loss: ")
	if e.Height != None {
		fmt.Fprintf(&b, "block %d, ", e.Height)
	}
	if e.Index != None {
		fmt.Fprintf(&b, "record %d, ", e.Index)
	}
	b.WriteString(e.File)
	if e.Offset != None {
		fmt.Fprintf(&b, " at byte %d", e.Offset)
	}
	fmt.Fprintf(&b, ": %s", e.What)
	if !e.Want.IsZero() || !e.Got.IsZero() {
		fmt.Fprintf(&b, " (committed %s, found %s)", e.Want, e.Got)
	}
	if e.Cause != nil {
		fmt.Fprintf(&b, ": %v", e.Cause)
	}
	return b.String()
}

func (e *DataLossError) Unwrap() error { return e.Cause }
