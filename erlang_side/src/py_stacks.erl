%% @doc What the threads and tasks of workers are doing. A worker is asked by a frame, which whatever
%% thread reads answers, so that it may be busy. One that does not answer, since C code holds
%% the interpreter lock, gets a signal: `faulthandler' then writes what it finds where it
%% can be read, and needs no lock for that.
%% @hidden
-module(py_stacks).

-export([of_pool/1, format/1]).
%% Called by spawn_monitor/3.
-export([answer/1]).

%% How long a worker has to answer the frame, and then the signal. A larger number makes whoever
%% asks wait for those that are stuck; a smaller one takes busy ones for stuck.
-define(ANSWER_MS, 1000).

%% How often what is written after the signal is read. It is whole when that many reads in a row
%% have found nothing more.
-define(READ_MS, 20).
-define(QUIET_READS, 3).

%% @doc Of the workers of a pool that are ready, or of one worker.
-spec of_pool(atom() | pid()) -> {ok, #{pid() => binary()}} | {error, py_error:reason()}.
of_pool(Pool) ->
    case pids(Pool) of
        {ok, Pids} ->
            Asked = [{Pid, element(2, spawn_monitor(?MODULE, answer, [Pid]))} || Pid <- Pids],
            Texts = [
                receive
                    {'DOWN', Monitor, process, _, Reason} -> {Pid, text(Reason)}
                end
             || {Pid, Monitor} <- Asked
            ],
            {ok, maps:from_list(Texts)};
        Error ->
            Error
    end.

pids(Pool) ->
    case is_pid(Pool) andalso py_workers:find(Pool) of
        {_, _} ->
            {ok, [Pool]};
        _ ->
            case py_pool_info:info(Pool) of
                #{workers := Workers} -> {ok, [Pid || #{pid := Pid} <- Workers]};
                Error -> Error
            end
    end.

text({stacks, Text}) -> unicode:characters_to_binary(Text);
text(_Exit) -> <<"It has ended.\n">>.

%% @doc For people.
-spec format(#{pid() => binary()}) -> iolist().
format(Stacks) ->
    [[io_lib:format("--- worker ~p~n", [Pid]), Text, $\n] || {Pid, Text} <- lists:sort(maps:to_list(Stacks))].

%% @private
-spec answer(pid()) -> no_return().
answer(Pid) ->
    case py_workers:find(Pid) of
        {Worker, _} ->
            Ref = erlang:monitor(process, Pid, [{alias, reply_demonitor}]),
            _ = py_port:write(Worker, py_frame:stacks(py_frame:address(Ref))),
            receive
                {Ref, Text} -> exit({stacks, Text});
                {'DOWN', Ref, process, _, _} -> exit(normal)
            after ?ANSWER_MS -> exit({stacks, by_signal(py_workers:faulthandler(Pid))})
            end;
        none ->
            exit(normal)
    end.

by_signal({OsPid, {Signal, Fd}}) ->
    Path = lists:concat(["/proc/", OsPid, "/fd/", Fd]),
    case file:open(Path, [read, raw, binary]) of
        {ok, File} ->
            {ok, _} = file:position(File, eof),
            py_reaper:signal(OsPid, Signal),
            Dump = read(File, ?ANSWER_MS div ?READ_MS, 0, []),
            _ = file:close(File),
            silent(OsPid, Dump);
        {error, _} ->
            <<"It does not answer.\n">>
    end;
by_signal(none) ->
    <<"It does not answer, and the system has no signal for it.\n">>.

silent(OsPid, []) ->
    io_lib:format("It answers neither a request nor a signal. Its process is ~ts.~n", [py_os:state(py_os:of_pid(OsPid))]);
silent(_OsPid, Dump) ->
    ["It does not answer: this is what faulthandler finds.\n", Dump].

read(_File, 0, _Quiet, Dump) ->
    Dump;
read(_File, _Left, ?QUIET_READS, Dump) ->
    Dump;
read(File, Left, Quiet, Dump) ->
    timer:sleep(?READ_MS),
    case file:read(File, 1 bsl 20) of
        {ok, More} -> read(File, Left - 1, 0, [Dump, More]);
        _ when Dump =:= [] -> read(File, Left - 1, 0, []);
        _ -> read(File, Left - 1, Quiet + 1, Dump)
    end.
