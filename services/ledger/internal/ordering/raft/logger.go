package raft

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/hashicorp/go-hclog"
)

// logger hands the library's log lines to slog. What the library never uses
// comes from hclog's null logger.
type logger struct {
	hclog.Logger
	to *slog.Logger
}

func newLogger(to *slog.Logger) hclog.Logger {
	if to == nil {
		to = slog.Default()
	}
	return &logger{Logger: hclog.NewNullLogger(), to: to}
}

func (l *logger) Log(level hclog.Level, msg string, args ...any) { l.log(slogLevel(level), msg, args) }
func (l *logger) Trace(msg string, args ...any)                  { l.log(slogLevel(hclog.Trace), msg, args) }
func (l *logger) Debug(msg string, args ...any)                  { l.log(slog.LevelDebug, msg, args) }
func (l *logger) Info(msg string, args ...any)                   { l.log(slog.LevelInfo, msg, args) }
func (l *logger) Warn(msg string, args ...any)                   { l.log(slog.LevelWarn, msg, args) }
func (l *logger) Error(msg string, args ...any)                  { l.log(slog.LevelError, msg, args) }

func (l *logger) IsTrace() bool { return l.enabled(slogLevel(hclog.Trace)) }
func (l *logger) IsDebug() bool { return l.enabled(slog.LevelDebug) }
func (l *logger) IsInfo() bool  { return l.enabled(slog.LevelInfo) }
func (l *logger) IsWarn() bool  { return l.enabled(slog.LevelWarn) }
func (l *logger) IsError() bool { return l.enabled(slog.LevelError) }

func (l *logger) With(args ...any) hclog.Logger {
	return &logger{Logger: l.Logger, to: l.to.With(readable(args)...)}
}
func (l *logger) Named(string) hclog.Logger      { return l }
func (l *logger) ResetNamed(string) hclog.Logger { return l }

func (l *logger) enabled(level slog.Level) bool {
	return l.to.Enabled(context.Background(), level)
}

func (l *logger) log(level slog.Level, msg string, args []any) {
	if l.enabled(level) { // most lines are Debug: do not format them in vain
		l.to.Log(context.Background(), level, msg, readable(args)...)
	}
}

// readable resolves hclog's deferred formats.
func readable(args []any) []any {
	out := make([]any, len(args))
	for i, arg := range args {
		if f, ok := arg.(hclog.Format); ok && len(f) > 0 {
			arg = fmt.Sprintf(fmt.Sprint(f[0]), f[1:]...)
		}
		out[i] = arg
	}
	return out
}

func slogLevel(level hclog.Level) slog.Level {
	switch {
	case level <= hclog.Trace:
		return slog.LevelDebug - 4
	case level == hclog.Debug:
		return slog.LevelDebug
	case level == hclog.Info:
		return slog.LevelInfo
	case level == hclog.Warn:
		return slog.LevelWarn
	default:
		return slog.LevelError
	}
}
