%% @doc The operating-system process behind a port.
-module(py_os).

-export([is_alive/1, of_port/1, pid/1, reap/1, status/1]).
-export_type([process/0]).

-record(process, {
    pid :: pos_integer(),
    %% When it started, in the kernel's own words, so that another process that
    %% got the same number later is not taken for it. Unknown outside Linux.
    started :: binary() | unknown
}).
-opaque process() :: #process{}.

%% A Python process whose port was closed has so long to close its generators
%% before it is killed. A larger number lets slow clean-up finish, a smaller one
%% leaves less behind when a node stops in a hurry.
-define(GRACE_MS, 500).

%% @doc The process behind a port that was just opened.
-spec of_port(port()) -> process() | undefined.
of_port(Port) ->
    case erlang:port_info(Port, os_pid) of
        {os_pid, Pid} -> #process{pid = Pid, started = element(2, stat(Pid))};
        undefined -> undefined
    end.

%% @doc Its number.
-spec pid(process() | undefined) -> pos_integer() | undefined.
pid(undefined) -> undefined;
pid(#process{pid = Pid}) -> Pid.

%% @doc Whether it runs still. A process that has ended and was not waited for
%% does not.
-spec is_alive(process() | undefined) -> boolean().
is_alive(undefined) ->
    false;
is_alive(#process{pid = Pid, started = unknown}) ->
    os:cmd("kill -0 " ++ integer_to_list(Pid) ++ " 2>&1") =:= [];
is_alive(#process{pid = Pid, started = Started}) ->
    case stat(Pid) of
        {State, Started} -> State =/= <<"Z">> andalso State =/= <<"X">>;
        _ -> false
    end.

%% The fields behind the command's name, which may hold blanks and parentheses:
%% the state is the first, the start time the twentieth (proc_pid_stat(5)).
stat(Pid) ->
    case file:read_file("/proc/" ++ integer_to_list(Pid) ++ "/stat") of
        {ok, Stat} ->
            [_, Rest] = string:split(Stat, <<") ">>, trailing),
            Fields = binary:split(Rest, <<" ">>, [global]),
            {hd(Fields), lists:nth(20, Fields)};
        {error, _} ->
            {unknown, unknown}
    end.

%% @doc Sees to it that the process is gone soon: it has seen the end of its
%% input; if that does not end it, a signal that nothing can ignore does. Takes
%% no time of the caller's.
-spec reap(process() | undefined) -> ok.
reap(undefined) ->
    ok;
reap(Process) ->
    _ = spawn(fun() -> wait(Process, ?GRACE_MS) end),
    ok.

wait(Process = #process{pid = Pid}, Ms) ->
    case is_alive(Process) of
        true when Ms =< 0 ->
            os:cmd("kill -9 " ++ integer_to_list(Pid));
        true ->
            timer:sleep(50),
            wait(Process, Ms - 50);
        false ->
            ok
    end.

%% @doc The status of a port program: above 128 it was a signal, as erl_child_setup
%% and shells have it.
-spec status(non_neg_integer()) -> non_neg_integer() | {signal, pos_integer()}.
status(Code) when Code > 128, Code < 128 + 65 -> {signal, Code - 128};
status(Code) -> Code.
