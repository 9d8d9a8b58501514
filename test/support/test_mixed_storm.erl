%% @doc The blows of the mixed chaos, one after another: what dies, stops, is used up, loaded, drained or restarted.
-module(test_mixed_storm).

-include("test_mixed.hrl").

-export([storm/3, killer/0, distribute/1]).

-import(test_mixed_context, [note/2, note/3, now_ms/0, one_of/1, pause/1, user_process/0]).
-import(test_mixed_library, [kind/1, library_processes/0]).

-define(FEW_EVERY_MS, 2500).

%% @doc Blows until `End', then makes everything as it was, but for what has died. From `Few' on one of the
%% processes may be killed of which only so many may die. Both times are those of `now_ms/0'.
-spec storm(End :: integer(), Few :: integer(), test_mixed_context:context()) -> ok.
storm(End, Few, Context = #{every := Every}) ->
    case now_ms() of
        Now when Now >= End ->
            calm(Context);
        Now ->
            Later = blow(one_of(blows()), Now, Few, Context),
            pause(rand:uniform(2 * Every)),
            storm(End, Later, Context)
    end.

blows() ->
    [
        sigkill, sigkill, sigkill, sigterm, sigstop, sigstop_for_long,
        library, library, library, library, library, library, supervised,
        streams, descriptors, code, distribution, drain, restart_workers, lost_count
    ].

%% Returns when one of the supervised may be killed next.
blow(supervised, Now, Few, Context) when Now >= Few ->
    Supervised = [P || P = {_, Kind} <- library_processes(), lists:member(Kind, ?FEW)],
    kill_one(Supervised, Context),
    Now + ?FEW_EVERY_MS;
blow(supervised, _Now, Few, _Context) ->
    Few;
blow(library, _Now, Few, Context) ->
    Others = [P || P = {_, Kind} <- library_processes(), not lists:member(Kind, [py_sup | ?FEW])],
    Kinds = lists:usort([Kind || {_, Kind} <- Others]),
    _ = Kinds =/= [] andalso
        begin
            Chosen = one_of(Kinds),
            kill_one([P || P = {_, Kind} <- Others, Kind =:= Chosen], Context)
        end,
    Few;
blow(streams, _Now, Few, Context) ->
    kill_one([{Pid, py_stream} || {_, Pid, _, _, _} <- ets:tab2list(py_streams)], Context),
    Few;
blow(sigkill, _Now, Few, Context) ->
    signal("KILL", Context),
    Few;
blow(sigterm, _Now, Few, Context) ->
    signal("TERM", Context),
    Few;
blow(sigstop, _Now, Few, Context) ->
    stopped(rand:uniform(800), Context),
    Few;
blow(sigstop_for_long, _Now, Few, Context) ->
    rand:uniform(10) =:= 1 andalso stopped(15000, Context),
    Few;
blow(descriptors, _Now, Few, Context) ->
    note({kill, descriptors}, Context),
    Ms = rand:uniform(600),
    _ = spawn(fun() ->
        user_process(),
        use_up(),
        pause(Ms)
    end),
    Few;
blow(code, _Now, Few, Context) ->
    %% One at a time: the name says whether there is one.
    _ = whereis(chaos_loader) =:= undefined andalso
        register(
            chaos_loader,
            spawn(fun() ->
                user_process(),
                load(Context)
            end)
        ),
    Few;
blow(distribution, _Now, Few, Context) ->
    distribute(Context),
    Few;
blow(drain, _Now, Few, Context) ->
    note({kill, drain}, Context),
    _ = py:drain(default, rand:uniform(200)),
    resume(Context),
    Few;
blow(restart_workers, _Now, Few, Context) ->
    note({kill, restart_workers}, Context),
    _ = spawn(fun() ->
        user_process(),
        py:restart_workers(default)
    end),
    Few;
blow(lost_count, _Now, Few, Context) ->
    note({kill, lost_count}, Context),
    try
        test_workers:lose({1, 1}, default)
    catch
        %% There is no worker just now.
        error:_ -> ok
    end,
    Few.

kill_one([], _Context) ->
    ok;
kill_one(Processes, Context) ->
    {Pid, Kind} = one_of(Processes),
    exit(Pid, kill),
    note({kill, Kind}, Context).

signal(Signal, Context) ->
    case os_pids() of
        [] ->
            ok;
        OsPids ->
            note({kill, list_to_atom("sig" ++ string:lowercase(Signal))}, Context),
            send_signal(Signal, one_of(OsPids), Context)
    end.

os_pids() ->
    case py:info(default) of
        #{workers := Workers} -> [OsPid || #{os_pid := OsPid} <- Workers, is_integer(OsPid)];
        _ -> []
    end.

send_signal(Signal, OsPid, #{killer := Killer}) ->
    Killer ! {signal, Signal, OsPid},
    ok.

stopped(Ms, Context) ->
    case os_pids() of
        [] ->
            ok;
        OsPids ->
            note({kill, sigstop}, Context),
            OsPid = one_of(OsPids),
            send_signal("STOP", OsPid, Context),
            _ = spawn(fun() ->
                user_process(),
                pause(Ms),
                send_signal("CONT", OsPid, Context)
            end),
            ok
    end.

%% A shell that is there before there are no more descriptors.
-spec killer() -> pid().
killer() ->
    Self = self(),
    Killer = spawn(fun() ->
        user_process(),
        Port = open_port({spawn_executable, "/bin/sh"}, [
            {args, ["-c", "while read s p; do kill -$s $p; done 2>/dev/null"]}
        ]),
        Self ! {self(), started},
        kill_by(Port)
    end),
    receive
        {Killer, started} -> Killer
    end.

kill_by(Port) ->
    receive
        {signal, Signal, OsPid} ->
            true = port_command(Port, [Signal, " ", integer_to_list(OsPid), "\n"]),
            kill_by(Port)
    end.

%% Until this process ends.
use_up() ->
    case file:open("/dev/null", [raw, read]) of
        {ok, File} ->
            put({file, File}, true),
            use_up();
        {error, _} ->
            ok
    end.

resume(Context) ->
    resume(200, Context).

resume(0, Context) ->
    note(wrong, not_resumed, Context);
resume(Times, Context) ->
    case py:resume(default) of
        ok ->
            ok;
        {error, _} ->
            pause(50),
            resume(Times - 1, Context)
    end.

%% @doc Starts distribution, or stops it.
-spec distribute(test_mixed_context:context()) -> ok.
distribute(Context) ->
    note({kill, distribution}, Context),
    _ =
        case {is_alive(), Context} of
            {true, _} -> net_kernel:stop();
            {false, #{node := Name}} -> net_kernel:start([Name, longnames]);
            {false, _} -> ok
        end,
    ok.

%% Twice, so that no process can run the code that was there before. Those that do are waited for.
%% Who waits in a function of the library, or runs a function for Python, is a user's process and
%% may do so for long; one of the library's own may not.
load(Context = #{code := Code}) ->
    note({kill, load}, Context),
    lists:foreach(fun(Module) -> load(Module, 2, 40, Context) end, Code).

load(_Module, 0, _Tries, _Context) ->
    ok;
load({Module, _, _}, _Times, 0, Context) ->
    note({not_loaded, Module}, Context),
    [
        leaves(Pid, Module, now_ms() + ?LOST_MS) orelse
            note(wrong, {old_code, Module, kind(Pid), process_info(Pid, current_stacktrace)}, Context)
     || Pid <- old(Module), not is_users(Pid)
    ],
    ok;
load(Entry = {Module, File, Binary}, Times, Tries, Context) ->
    case old(Module) of
        [] ->
            _ = code:purge(Module),
            {module, Module} = code:load_binary(Module, File, Binary),
            load(Entry, Times - 1, Tries, Context);
        _ ->
            pause(10),
            load(Entry, Times, Tries - 1, Context)
    end.

%% One of the library's own may be busy, and ends with the old code when it is not.
leaves(Pid, Module, Deadline) ->
    case erlang:check_process_code(Pid, Module) of
        false ->
            true;
        true ->
            now_ms() < Deadline andalso
                begin
                    pause(10),
                    leaves(Pid, Module, Deadline)
                end
    end.

old(Module) ->
    [Pid || Pid <- processes(), erlang:check_process_code(Pid, Module) =:= true].

is_users(Pid) ->
    case kind(Pid) of
        %% Somebody waits for the start of a worker of one's own.
        py_pool_manager -> {current_function, {py_pool_manager, await_worker, 1}} =:= process_info(Pid, current_function);
        Kind when Kind =:= user; Kind =:= py_callback; Kind =:= py_exec_queue -> true;
        _ -> false
    end.

%% Everything is as it was, but what has died.
calm(Context) ->
    Loader = monitor(process, chaos_loader),
    receive
        {'DOWN', Loader, process, _, _} -> ok
    end,
    _ = is_alive() andalso net_kernel:stop(),
    resume(Context).
