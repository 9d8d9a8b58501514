%% @doc The operating-system process behind a port.
%% @hidden
-module(py_os).

-export([activity/1, hold_open/2, is_alive/1, kill/1, kill_group/1, of_pid/1, of_port/1, pid/1, rss/1, status/1]).
-export_type([process/0]).

-record(process, {
    pid :: pos_integer(),
    %% When it started, as the kernel writes it, so that another process that
    %% got the same number later is not taken for it. Unknown outside Linux.
    started :: binary() | unknown
}).
-opaque process() :: #process{}.

%% @doc The process behind a port that was just opened.
-spec of_port(port()) -> process() | undefined.
of_port(Port) ->
    case erlang:port_info(Port, os_pid) of
        {os_pid, Pid} -> #process{pid = Pid, started = element(3, stat(Pid))};
        undefined -> undefined
    end.

%% @doc The process of that number.
-spec of_pid(pos_integer()) -> process().
of_pid(Pid) ->
    #process{pid = Pid, started = element(3, stat(Pid))}.

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

%% @doc Whether it runs still. A process that has ended and was not waited for
%% does not.
-spec is_alive(process() | undefined) -> boolean().
is_alive(undefined) ->
    false;
is_alive(#process{pid = Pid, started = unknown}) ->
    os:cmd("kill -0 " ++ integer_to_list(Pid) ++ " 2>&1") =:= [];
is_alive(#process{pid = Pid, started = Started}) ->
    case stat(Pid) of
        {State, _, Started} -> State =/= <<"Z">> andalso State =/= <<"X">>;
        _ -> false
    end.

%% @doc What it does: `gone'; `stopped' by a signal or a debugger; or the
%% processor time that it has used, in units of the kernel's. `unknown' if the
%% system does not say (outside Linux).
-spec activity(process() | undefined) -> gone | stopped | unknown | non_neg_integer().
activity(Process = #process{started = unknown}) ->
    case is_alive(Process) of
        true -> unknown;
        false -> gone
    end;
activity(Process = #process{pid = Pid, started = Started}) ->
    case stat(Pid) of
        {<<"T">>, _, Started} -> stopped;
        {<<"t">>, _, Started} -> stopped;
        {_, Time, Started} ->
            case is_alive(Process) of
                true -> Time;
                false -> gone
            end;
        _ -> gone
    end;
activity(undefined) ->
    gone.

%% The fields behind the command's name, which may hold blanks and parentheses:
%% the state is the first, user and system time the twelfth and thirteenth, the
%% start time the twentieth (proc_pid_stat(5)).
stat(Pid) ->
    case read("/proc/" ++ integer_to_list(Pid) ++ "/stat") of
        {ok, Stat} ->
            [_, Rest] = string:split(Stat, <<") ">>, trailing),
            Fields = binary:split(Rest, <<" ">>, [global]),
            Time = [binary_to_integer(lists:nth(N, Fields)) || N <- [12, 13]],
            {hd(Fields), lists:sum(Time), lists:nth(20, Fields)};
        _ ->
            {unknown, unknown, unknown}
    end.

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
read(Name) ->
    case file:open(Name, [raw, read, binary]) of
        {ok, File} ->
            Read = file:read(File, 4096),
            _ = file:close(File),
            Read;
        Error ->
            Error
    end.

%% @doc Ends processes by a signal that nothing can ignore.
-spec kill([process()]) -> ok.
kill([]) ->
    ok;
kill(Processes) ->
    Pids = [[" ", integer_to_list(Pid)] || #process{pid = Pid} <- Processes],
    _ = os:cmd(lists:flatten(["kill -9", Pids, " 2>/dev/null"])),
    ok.

%% @doc Ends the process group that the process leads, or led: as long as it has members, no
%% other process gets its number.
-spec kill_group(process()) -> ok.
kill_group(#process{pid = Pid}) ->
    _ = os:cmd("kill -9 -" ++ integer_to_list(Pid) ++ " 2>/dev/null"),
    ok.

%% @doc The status of a port program: above 128 it was a signal, as erl_child_setup
%% and shells have it.
-spec status(non_neg_integer()) -> non_neg_integer() | {signal, pos_integer()}.
status(Code) when Code > 128, Code < 128 + 65 -> {signal, Code - 128};
status(Code) -> Code.
