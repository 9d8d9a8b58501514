%% @doc The operating-system process behind a port.
%% @hidden
-module(py_os).

-export([close/1, hold_open/2, of_pid/1, of_port/1, open/1, pid/1, rss/1, state/1, status/1]).
-export_type([process/0, state/0]).

-type state() :: running | stopped | gone | unknown.
%% `stopped' by a signal; `unknown' if the system does not say: outside Linux, or where the node may
%% open no more files.

-record(process, {
    pid :: pos_integer(),
    %% When it started, as the kernel writes it, so that another process that
    %% got the same number later is not taken for it. Unknown outside Linux.
    started :: binary() | unknown,
    %% What says it, if it was opened.
    stat = none :: none | file:fd()
}).
-opaque process() :: #process{}.

%% @doc The process behind a port that was just opened.
-spec of_port(port()) -> process() | undefined.
of_port(Port) ->
    case erlang:port_info(Port, os_pid) of
        {os_pid, Pid} -> of_pid(Pid);
        undefined -> undefined
    end.

%% @doc The process of that number.
-spec of_pid(pos_integer()) -> process().
of_pid(Pid) ->
    case stat(read(stat_file(Pid))) of
        {_, Started} -> #process{pid = Pid, started = Started};
        error -> #process{pid = Pid, started = unknown}
    end.

%% @doc Opens what says how the process is, so that the calling process can ask when the node may
%% open no more files.
-spec open(process()) -> process().
open(Process = #process{pid = Pid, started = Started}) ->
    case Started =/= unknown andalso file:open(stat_file(Pid), [raw, read, binary]) of
        {ok, File} -> Process#process{stat = File};
        _ -> Process
    end.

-spec close(process() | undefined) -> ok.
close(#process{stat = File}) when File =/= none ->
    _ = file:close(File),
    ok;
close(_) ->
    ok.

%% @doc Its number.
-spec pid(process() | undefined) -> pos_integer() | undefined.
pid(undefined) -> undefined;
pid(#process{pid = Pid}) -> Pid.

%% @doc Holds the pipe open that the process reads from the port, which is its descriptor
%% `Fd', until the caller ends. Otherwise something that is written just when the process
%% dies closes the port, by `epipe', and no message with its exit status comes. `undefined'
%% outside Linux (proc(5), on `/proc/pid/fd').
-spec hold_open(process() | undefined, non_neg_integer()) -> file:fd() | undefined.
hold_open(undefined, _Fd) ->
    undefined;
hold_open(#process{pid = Pid}, Fd) ->
    Path = lists:concat(["/proc/", Pid, "/fd/", Fd]),
    case file:open(Path, [read, raw, binary]) of
        {ok, Held} -> Held;
        {error, _} -> undefined
    end.

%% @doc What it does. A process that has ended and was not waited for is gone.
-spec state(process() | undefined) -> state().
state(undefined) ->
    gone;
state(#process{started = unknown}) ->
    unknown;
state(Process = #process{started = Started}) ->
    Read = read(Process),
    case stat(Read) of
        {<<"Z">>, Started} -> gone;
        {<<"X">>, Started} -> gone;
        {<<"T">>, Started} -> stopped;
        {_, Started} -> running;
        {_, _Other} -> gone;
        error -> unread(Read)
    end.

%% That a file cannot be opened is no sign of an end.
unread({error, esrch}) ->
    gone;
unread({error, enoent}) ->
    case read(stat_file(self)) of
        {ok, _} -> gone;
        {error, _} -> unknown
    end;
unread(_) ->
    unknown.

stat_file(Pid) -> lists:concat(["/proc/", Pid, "/stat"]).

%% The fields behind the command's name, which may hold blanks and parentheses:
%% the state is the first, the start time the twentieth (proc_pid_stat(5)).
stat({ok, Stat}) ->
    [_, Rest] = string:split(Stat, <<") ">>, trailing),
    Fields = binary:split(Rest, <<" ">>, [global]),
    {hd(Fields), lists:nth(20, Fields)};
stat(_) ->
    error.

%% @doc Its resident memory in bytes; `undefined' if the system does not say (outside Linux).
-spec rss(process() | undefined) -> non_neg_integer() | undefined.
rss(undefined) ->
    undefined;
rss(#process{pid = Pid}) ->
    case read("/proc/" ++ integer_to_list(Pid) ++ "/status") of
        {ok, Status} ->
            case binary:split(Status, <<"VmRSS:">>) of
                [_, Rest] ->
                    {KiB, _} = string:to_integer(string:trim(binary_part(Rest, 0, min(30, byte_size(Rest))), leading)),
                    KiB * 1024;
                %% It has ended, and was not waited for.
                _ ->
                    undefined
            end;
        _ ->
            undefined
    end.

%% Raw, so that it does not wait for the node's file server.
read(#process{stat = none, pid = Pid}) ->
    read(stat_file(Pid));
read(#process{stat = File}) ->
    file:pread(File, 0, 4096);
read(Name) ->
    case file:open(Name, [raw, read, binary]) of
        {ok, File} ->
            Read = file:read(File, 4096),
            _ = file:close(File),
            Read;
        Error ->
            Error
    end.

%% @doc The status of a port program: above 128 it was a signal, as erl_child_setup
%% and shells have it.
-spec status(non_neg_integer()) -> non_neg_integer() | {signal, pos_integer()}.
status(Code) when Code > 128, Code < 128 + 65 -> {signal, Code - 128};
status(Code) -> Code.
