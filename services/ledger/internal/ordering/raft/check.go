package raft

import (
	"fmt"

	hraft "github.com/hashicorp/raft"
)

// maxSnapshot bounds the bytes of a snapshot, which is a pointer and a header.
const maxSnapshot = contentHeader + maxPointer

// checkRPC is rule R0's part about messages: a message that came from peer, by
// its certificate, must say so in every field that names its sender. It also
// refuses what an honest sender never sends and what would make the library
// panic, since a peer may be Byzantine: raft.DecodeConfiguration and an unknown
// type of entry do. leader is the present one as far as known, or "".
func checkRPC(peer, leader string, rpc hraft.RPC) error {
	message, ok := rpc.Command.(hraft.WithRPCHeader)
	if !ok {
		return fmt.Errorf("message of type %T has no header", rpc.Command)
	}
	header := message.GetRPCHeader()
	if id, address := string(header.ID), string(header.Addr); id != peer || address != peer {
		return fmt.Errorf("message says it is from node %q at %q, the certificate is of %q (rule R0)", id, address, peer)
	}
	switch m := rpc.Command.(type) {
	case *hraft.AppendEntriesRequest:
		if err := checkOldSender(peer, m.Leader); err != nil { //nolint:staticcheck // SA1019: the library still reads it
			return err
		}
		return checkEntries(m)
	case *hraft.RequestVoteRequest:
		return checkOldSender(peer, m.Candidate) //nolint:staticcheck // SA1019: the library still reads it
	case *hraft.RequestPreVoteRequest:
		return nil
	case *hraft.InstallSnapshotRequest:
		if err := checkOldSender(peer, m.Leader); err != nil {
			return err
		}
		if m.SnapshotVersion != 1 || len(m.Peers) != 0 || m.Size < 0 || m.Size > maxSnapshot {
			return fmt.Errorf("snapshot of version %d, %d bytes and %d bytes of peers, want version 1, at most %d bytes and no peers",
				m.SnapshotVersion, m.Size, len(m.Peers), maxSnapshot)
		}
		return checkConfiguration(m.Configuration)
	case *hraft.TimeoutNowRequest:
		if peer != leader {
			return fmt.Errorf("replica %q hands over a lead that is of %q", peer, leader)
		}
		return nil
	default:
		return fmt.Errorf("unknown message %T", m)
	}
}

// checkOldSender checks a sender field from before the header existed, which the
// library reads where the header has no address.
func checkOldSender(peer string, field []byte) error {
	if len(field) != 0 && string(field) != peer {
		return fmt.Errorf("message names %q as its sender, the certificate is of %q (rule R0)", field, peer)
	}
	return nil
}

func checkEntries(m *hraft.AppendEntriesRequest) error {
	for i, entry := range m.Entries {
		if entry == nil {
			return fmt.Errorf("entry %d of %d is missing", i, len(m.Entries))
		}
		if want := m.PrevLogEntry + 1 + uint64(i); entry.Index != want {
			return fmt.Errorf("entry %d has index %d, want %d", i, entry.Index, want)
		}
		if entry.Term == 0 || entry.Term > m.Term {
			return fmt.Errorf("entry %d has term %d, the message has %d", entry.Index, entry.Term, m.Term)
		}
		switch entry.Type {
		case hraft.LogCommand, hraft.LogNoop, hraft.LogBarrier:
		case hraft.LogConfiguration:
			if err := checkConfiguration(entry.Data); err != nil {
				return fmt.Errorf("entry %d: %w", entry.Index, err)
			}
		default:
			return fmt.Errorf("entry %d has type %v", entry.Index, entry.Type)
		}
	}
	return nil
}

// checkConfiguration refuses a list of servers that does not decode, that the
// library's own check would not have let through, or in which an address is not
// the node id.
func checkConfiguration(encoded []byte) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("configuration: %v", r)
		}
	}()
	seen := make(map[hraft.ServerID]bool)
	voters := 0
	for _, server := range hraft.DecodeConfiguration(encoded).Servers {
		if server.ID == "" || string(server.Address) != string(server.ID) || seen[server.ID] {
			return fmt.Errorf("configuration has server %q at %q", server.ID, server.Address)
		}
		seen[server.ID] = true
		if server.Suffrage == hraft.Voter {
			voters++
		}
	}
	if voters == 0 {
		return fmt.Errorf("configuration of %d servers has no voter", len(seen))
	}
	return nil
}
