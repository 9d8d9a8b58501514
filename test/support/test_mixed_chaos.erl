%% @doc Every function of the API at once, while all that may die dies.
%%
%% `run/1' is called in a node of its own. Its users each do one thing after another, chosen
%% at random, and compare each value with the one that must come. Meanwhile a storm kills and
%% stops Python processes, kills processes of the library, uses up the node's descriptors, loads
%% the library's code, starts and stops distribution, drains and restarts. When it is over nothing
%% may be left: no request on either side, process, row of a table, descriptor, memory.
-module(test_mixed_chaos).

-export([run/1]).
-export_type([options/0, figures/0]).

-type options() :: #{
    milliseconds := pos_integer(),
    users := pos_integer(),
    %% How long from one blow of the storm to the next, in milliseconds.
    every := pos_integer(),
    seed := integer(),
    %% A variable of the environment that all descendants of this node have.
    mark := string(),
    node => node()
}.
-type figures() :: #{atom() | tuple() => term()}.

-define(PYTHON, mixed).
%% Longer than anything takes that is not lost.
-define(LOST_MS, 45000).
%% Supervised processes of which only so many may die in ten seconds.
-define(FEW, [py_stream_guard, py_mail_counter, py_reaper, py_pool_sup, pg]).
-define(FEW_EVERY_MS, 2500).
%% Atoms of code that is loaded late and of names of nodes.
-define(ATOMS, 100).
-define(DETAILS, 8).

%% @doc Runs the chaos in the pool `default' of the running application. What was counted: what the users did
%% by its kind, `{kill, What}', and what must be 0 or empty: `lost', `doubled', `untold', `wrong', `left'.
-spec run(options()) -> figures().
run(Opts = #{milliseconds := Ms, users := Users, seed := Seed}) ->
    Counts = ets:new(counts, [public, {write_concurrency, true}]),
    [ets:insert(Counts, {Must, 0}) || Must <- [lost, doubled, untold, wrong]],
    Code = library(),
    [code:ensure_modules_loaded(Modules) || App <- [kernel, stdlib], {ok, Modules} <- [application:get_key(App, modules)]],
    ok = py:register_function(chaos_next, fun([N]) -> N + 1 end),
    ok = py:register_function(chaos_down, fun([N]) -> result(py:call(?PYTHON, down, [N])) end),
    Context = Opts#{counts => Counts, code => Code, stop => atomics:new(1, []), killer => killer()},
    true = is_pid(maps:get(killer, Context)),
    %% Threads, modules and tables are there before it is measured.
    ok = users(Users, Seed, Context, fun() ->
        pause(2000),
        %% Distribution, too, leaves a program that looks up the names of hosts.
        _ = inet:gethostbyname("localhost"),
        distribute(Context),
        pause(500),
        distribute(Context)
    end),
    ok = py:restart_workers(default),
    settled(),
    _ = measured(Context),
    Before = measured(Context),
    ets:delete_all_objects(Counts),
    [ets:insert(Counts, {Must, 0}) || Must <- [lost, doubled, untold, wrong]],
    atomics:put(maps:get(stop, Context), 1, 0),
    ok = users(Users, Seed, Context, fun() ->
        {Pid, Monitor} = spawn_monitor(fun() ->
            user_process(),
            seed(Seed, 0),
            storm(now_ms() + Ms, now_ms(), Context)
        end),
        receive
            {'DOWN', Monitor, process, Pid, normal} -> ok;
            {'DOWN', Monitor, process, Pid, Why} -> note(wrong, {storm, Why}, Context)
        end
    end),
    Left = left(Before, Context),
    Figures = maps:from_list([{Key, N} || {Key, N} <- ets:tab2list(Counts), not is_detail(Key)]),
    Details = [Detail || {{detail, _}, Detail} <- ets:tab2list(Counts)],
    exit(maps:get(killer, Context), kill),
    Figures#{seed => Seed, left => Left, details => Details, memory => {maps:get(memory, Before), after_all()}}.

%% If the application has ended there is nothing to measure, and `left' says so.
after_all() ->
    case py_pool:is_running() of
        true -> memory();
        false -> #{node => 0, python => 0}
    end.

is_detail({detail, _}) -> true;
is_detail(_) -> false.

%% Starts the users, and returns when they have ended after `Fun'.
users(Number, Seed, Context = #{stop := Stop}, Fun) ->
    Users = [
        spawn_monitor(fun() ->
            user_process(),
            seed(Seed, N),
            user(Context)
        end)
     || N <- lists:seq(1, Number)
    ],
    Pools = spawn_monitor(fun() ->
        user_process(),
        pools(Context)
    end),
    Fun(),
    atomics:put(Stop, 1, 1),
    Timer = erlang:start_timer(2 * ?LOST_MS, self(), users),
    lists:foreach(
        fun({Pid, Monitor}) ->
            receive
                {'DOWN', Monitor, process, Pid, normal} -> ok;
                {'DOWN', Monitor, process, Pid, Why} -> note(wrong, {user, Why}, Context);
                {timeout, Timer, users} ->
                    self() ! {timeout, Timer, users},
                    note(untold, {user, process_info(Pid, [current_stacktrace, messages])}, Context),
                    exit(Pid, kill)
            end
        end,
        [Pools | Users]
    ),
    _ = erlang:cancel_timer(Timer),
    ok.

%% Processes of the test are told from those of the library by this.
user_process() ->
    put(chaos_user, true).

seed(Seed, N) ->
    _ = rand:seed(exsss, {Seed, N, 0}),
    ok.

note(Key, Context) ->
    ets:update_counter(maps:get(counts, Context), Key, 1, {Key, 0}),
    ok.

note(Key, Detail, Context = #{counts := Counts}) ->
    note(Key, Context),
    N = ets:lookup_element(Counts, Key, 2),
    _ = N =< ?DETAILS andalso ets:insert(Counts, {{detail, {Key, N}}, {Key, Detail}}),
    ok.

%%% Users.

user(Context = #{stop := Stop}) ->
    case atomics:get(Stop, 1) of
        1 ->
            ok;
        0 ->
            {Kind, Do} = one_of(kinds()),
            Outcome = Do(),
            note(Kind, Context),
            judge(Kind, Outcome, Context),
            clean(Kind, Context),
            user(Context)
    end.

judge(_Kind, right, _Context) -> ok;
judge(_Kind, {error, draining}, Context) ->
    note(refused, Context),
    pause(10);
judge(_Kind, {error, {no_worker, _}}, Context) -> note(no_worker, Context);
judge(_Kind, {error, {worker_exit, _}}, Context) -> note(worker_exit, Context);
judge(_Kind, {error, {stream_exit, killed}}, Context) -> note(stream_exit, Context);
judge(Kind, {error, timeout}, Context) -> note(untold, Kind, Context);
judge(Kind, {Must, Detail}, Context) when Must =:= lost; Must =:= doubled; Must =:= untold ->
    note(Must, {Kind, Detail}, Context);
judge(Kind, allowed, Context) -> note({allowed, Kind}, Context);
judge(Kind, Outcome, Context) -> note(wrong, {Kind, Outcome}, Context).

%% What comes after the end. The answer to a cast may come whenever it likes, once.
clean(Kind, Context) ->
    receive
        {<<"cast">>, N} ->
            case erase({cast, N}) of
                undefined -> note(doubled, {cast, N}, Context);
                true -> note(cast_answered, Context)
            end,
            clean(Kind, Context);
        Message ->
            note(doubled, {after_end, Kind, Message}, Context),
            clean(Kind, Context)
    after 0 -> ok
    end.

one_of(List) ->
    lists:nth(rand:uniform(length(List)), List).

kinds() ->
    N = rand:uniform(1000),
    [
        {call, fun() -> same(N, py:call(?PYTHON, one_of([echo, aecho, nap, anap]), [N])) end},
        {call, fun() -> same(N, py:call(?PYTHON, one_of([nap, anap]), [N], #{seconds => 0.2})) end},
        {call, fun() -> same(#{1 => [N]}, py:call(?PYTHON, echo, [#{1 => [N]}], #{}, #{timeout => ?LOST_MS})) end},
        {failing_call, fun failing/0},
        {child, fun() -> same(N, py:call(?PYTHON, child, [N])) end},
        {spawn_call, fun() -> awaited(N, py:spawn_call(?PYTHON, one_of([echo, aecho, nap, anap]), [N])) end},
        {given_up, fun given_up/0},
        {cast, fun() -> cast() end},
        {eval, fun() -> same(N + 1, py:eval("n + 1", #{n => N})) end},
        {exec, fun() -> executed(py:exec("chaos = 1", #{replay => false})) end},
        {exec_replayed, fun() -> executed(py:exec("chaos_replayed = 1")) end},
        {callback, fun() -> called_back(N + 1, py:call(?PYTHON, one_of([called, acalled]), [N])) end},
        {nested, fun() -> called_back(5, py:call(?PYTHON, down, [5])) end},
        {handle, fun() -> handle(N) end},
        {channel, fun() -> channel(N) end},
        {pipe, fun() -> pipe(N) end},
        {collect, fun() -> same(lists:seq(0, N - 1), py:stream(?PYTHON, one_of([count, acount]), [N])) end},
        {collect, fun() -> same([0, 1, 2], py:stream(?PYTHON, forever, [N], #{}, #{take => 3})) end},
        {stream_eval, fun() -> same(lists:seq(0, N - 1), py:stream_eval("(i for i in range(n))", #{n => N})) end},
        {enumerable, fun() -> enumerable(N, py:enumerable(?PYTHON, one_of([count, acount]), [N])) end},
        {enumerable, fun() -> enumerable(N, py:enumerable_eval("iter(range(n))", #{n => N})) end},
        {fold, fun() -> fold(N) end},
        {metadata, fun() -> same(N, py:eval("__import__('erlang').metadata()['n']", #{}, #{metadata => #{n => N}})) end},
        {info, fun info/0},
        {killed_owner, fun() -> killed_owner() end},
        {other_owner, fun() -> other_owner() end}
        | [{stream, fun() -> stream(Spec) end} || Spec <- streams(N)]
    ].

same(Value, {ok, Value}) -> right;
same(_Value, {error, Reason}) -> {error, Reason};
same(Value, {ok, Other}) -> {wrong, {Value, Other}}.

executed(ok) -> right;
executed(Error) -> Error.

awaited(Value, Ref) ->
    same(Value, py:await(Ref, ?LOST_MS)).

failing() ->
    case py:call(?PYTHON, fail, []) of
        {error, {'ValueError', <<"no">>}} -> right;
        Other -> Other
    end.

given_up() ->
    case py:await(py:spawn_call(?PYTHON, one_of([nap, anap]), [1], #{seconds => 3}), rand:uniform(50)) of
        {error, timeout} -> right;
        Other -> Other
    end.

cast() ->
    N = erlang:unique_integer(),
    put({cast, N}, true),
    ok = py:cast(?PYTHON, send_back, [self(), N]),
    receive
        {<<"cast">>, N} = Answer ->
            self() ! Answer,
            right
    after 5000 -> allowed
    end.

%% The process that runs an Erlang function may be killed, and a call inside it may meet a dead worker.
called_back(Value, {ok, Value}) -> right;
called_back(_Value, {error, {<<"erlang.ErlangError">>, _}}) -> allowed;
called_back(_Value, {error, {<<"ErlangError">>, _}}) -> allowed;
called_back(Value, Other) -> same(Value, Other).

result({ok, Value}) -> Value;
result({error, Reason}) -> exit(Reason).

%% Whoever keeps it may be killed.
handle(N) ->
    case py:call(?PYTHON, 'Counter', [], #{}, #{return => handle}) of
        {ok, Handle} ->
            try
                used(N, Handle)
            after
                ok = py:release(Handle)
            end;
        Error ->
            Error
    end.

used(N, Handle) ->
    case {py:call(Handle, add, [N]), py:stream(Handle, below, [])} of
        {{ok, N}, {ok, Values}} -> same(lists:seq(0, N - 1), {ok, Values});
        {{error, {'ReferenceError', _}}, _} -> allowed;
        {{ok, N}, {error, {'ReferenceError', _}}} -> allowed;
        {{error, Reason}, _} -> {error, Reason};
        {{ok, N}, {error, Reason}} -> {error, Reason};
        Other -> {wrong, Other}
    end.

channel(N) ->
    {ok, In} = py:channel(#{window => 1 + rand:uniform(64)}),
    Ref = py:spawn_call(?PYTHON, one_of([total, atotal]), [In]),
    Sent = fill(N, In, Ref, 10),
    ok = py:channel_close(In),
    case {Sent, py:await(Ref, ?LOST_MS)} of
        {sent, Result} -> channel_result(N * (N + 1) div 2, Result);
        {closed, {error, Reason}} -> channel_result(none, {error, Reason});
        {closed, {ok, _}} -> allowed;
        Other -> {untold, Other}
    end.

%% Its own process may be killed: then Python sees that, or, at the very end, does not.
channel_result(_Value, {error, {<<"erlang.ErlangError">>, _}}) -> allowed;
channel_result(_Value, {error, {<<"ErlangError">>, _}}) -> allowed;
channel_result(Value, Result) -> same(Value, Result).

%% Where nothing reads, because the call was refused, there is no room, and no end either.
fill(0, _In, _Ref, _Tries) ->
    sent;
fill(N, In, Ref, Tries) ->
    case py:channel_send(In, N, ?LOST_MS div 10) of
        ok -> fill(N - 1, In, Ref, 10);
        {error, closed} -> closed;
        {error, timeout} when Tries =:= 0 -> timeout;
        {error, timeout} ->
            receive
                Ended when element(1, Ended) =:= Ref; element(2, Ended) =:= Ref ->
                    self() ! Ended,
                    closed
            after 0 -> fill(N, In, Ref, Tries - 1)
            end
    end.

%% Values in, and the same out again.
pipe(N) ->
    {ok, In} = py:channel(#{window => 8}),
    User = self(),
    Feeder = spawn(fun() ->
        user_process(),
        _ = [py:channel_send(In, I, ?LOST_MS) || I <- lists:seq(0, N - 1)],
        py:channel_close(In),
        User ! {fed, self()}
    end),
    Outcome = stream({one_of([piped, apiped]), In, #{window => 8}, {done, N}}),
    _ = py:channel_close(In),
    receive
        {fed, Feeder} -> ok
    after ?LOST_MS -> exit({feeder, process_info(Feeder, current_stacktrace)})
    end,
    case Outcome of
        {error, {Class, _}} when Class =:= <<"erlang.ErlangError">>; Class =:= <<"ErlangError">> -> allowed;
        _ -> Outcome
    end.

enumerable(N, Enumerable) ->
    try
        {done, {N, N}} = Enumerable({cont, {0, 0}}, fun(Value, {Value, Sum}) -> {cont, {Value + 1, Sum + 1}} end),
        right
    catch
        error:{python, Reason} -> {error, Reason};
        error:Reason -> {error, Reason}
    end.

fold(N) ->
    case py:stream_start(?PYTHON, count, [N]) of
        {ok, Ref} ->
            case py:stream_fold(fun(Value, Value) -> {cont, Value + 1} end, 0, Ref) of
                {ok, N} -> right;
                {ok, Less} -> {lost, {fold, N, Less}};
                {error, Reason, _} -> {error, Reason}
            end;
        Error ->
            Error
    end.

info() ->
    #{workers := _} = py:info(default),
    #{} = py:info(),
    _ = iolist_size(py_prometheus:format()),
    _ = py:functions(),
    right.

%% Nothing is left of what it did.
killed_owner() ->
    Seed = rand:uniform(1000000),
    {Pid, Monitor} = spawn_monitor(fun() ->
        user_process(),
        seed(Seed, 1),
        case rand:uniform(4) of
            1 -> py:call(?PYTHON, one_of([nap, anap]), [1], #{seconds => 3});
            2 -> py:stream(?PYTHON, one_of([forever, aforever]), [1]);
            3 -> py:await(py:spawn_call(?PYTHON, one_of([nap, anap]), [1], #{seconds => 3}));
            4 ->
                {ok, In} = py:channel(),
                {ok, _} = py:stream_start(?PYTHON, one_of([piped, apiped]), [In]),
                {ok, _} = py:call(?PYTHON, 'Counter', [], #{}, #{return => handle}),
                pause(10000)
        end
    end),
    pause(rand:uniform(60)),
    exit(Pid, kill),
    receive
        {'DOWN', Monitor, process, Pid, _} -> right
    end.

other_owner() ->
    User = self(),
    Seed = rand:uniform(1000000),
    {Owner, Monitor} = spawn_monitor(fun() ->
        user_process(),
        seed(Seed, 1),
        receive
            {User, Ref} -> exit({outcome, read(Ref, 0, {done, 300}, fun(V) -> V end)})
        end
    end),
    case py:stream_start(?PYTHON, one_of([count, acount, slow]), [300], #{owner => Owner}) of
        {ok, Ref} ->
            Owner ! {self(), Ref},
            receive
                {'DOWN', Monitor, process, Owner, {outcome, Outcome}} -> Outcome;
                {'DOWN', Monitor, process, Owner, Why} -> {wrong, Why}
            end;
        Error ->
            exit(Owner, kill),
            receive
                {'DOWN', Monitor, process, Owner, _} -> Error
            end
    end.

%%% Streams: the function, its argument, the options, and what must come.

streams(N) ->
    [
        {count, N, #{}, {done, N}},
        {acount, 3000, #{window => 16}, {done, 3000}},
        {forever, 0, #{batch => 8, window => 64}, {cancel, 3000}},
        {aforever, 0, #{batch => 100}, {cancel, 500}},
        {aforever, 0, #{take => 500}, {done, 500}},
        {forever, 0, #{take => N}, {done, N}},
        {slow, 50, #{timeout => ?LOST_MS}, {done, 50}},
        {aslow, 50, #{demand => 51}, {done, 50}},
        {count, 200, #{demand => 7}, {demand, 7, 200}},
        {acount, 200, #{demand => 7, batch => 3}, {demand, 7, 200}},
        {count, N, #{format => json}, {done, N}},
        {acount, N, #{format => msgpack, window_bytes => 100}, {done, N}},
        {forever, 0, #{}, {cancel, 0}}
    ].

stream({Function, Argument, Opts, Expected}) ->
    case py:stream_start(?PYTHON, Function, [Argument], Opts) of
        {ok, Ref} ->
            Outcome = read(Ref, 0, Expected, encoded(maps:get(format, Opts, term))),
            %% Nothing comes after the end: `clean/2' finds it, and it is asked for, too.
            case py:stream_next(Ref, 0) of
                timeout -> Outcome;
                More -> {doubled, {More, Outcome}}
            end;
        Error ->
            Error
    end.

encoded(term) -> fun(N) -> N end;
encoded(json) -> fun integer_to_binary/1;
encoded(msgpack) ->
    fun
        (N) when N < 128 -> <<N>>;
        (N) when N < 256 -> <<16#CC, N>>;
        (N) -> <<16#CD, N:16>>
    end.

read(Ref, Next, {cancel, Enough}, _Encoded) when Next >= Enough ->
    case rand:uniform(2) of
        1 ->
            ok = py:stream_cancel(Ref, [flush]),
            right;
        2 ->
            ok = py:stream_cancel(Ref),
            case py:stream_fold(fun(_, ok) -> {cont, ok} end, ok, Ref) of
                {error, cancelled, ok} -> right;
                {error, Reason, ok} -> {error, Reason};
                {ok, ok} -> {wrong, done_without_end}
            end
    end;
read(Ref, Next, {demand, Step, Length}, Encoded) when Next > 0, Next rem Step =:= 0 ->
    ok = py:stream_demand(Ref, Step),
    next(Ref, Next, {demand, Step, Length}, Encoded);
read(Ref, Next, Expected, Encoded) ->
    next(Ref, Next, Expected, Encoded).

next(Ref, Next, Expected, Encoded) ->
    case py:stream_next(Ref, ?LOST_MS) of
        {ok, Values} when is_list(Values) -> values(Values, Ref, Next, Expected, Encoded);
        {ok, Value} -> values([Value], Ref, Next, Expected, Encoded);
        done when Expected =:= {done, Next} -> right;
        done when element(1, Expected) =:= demand, element(3, Expected) =:= Next -> right;
        done -> {lost, {done, Next, Expected}};
        {error, Reason} -> {error, Reason};
        timeout -> {untold, {Next, Expected, where(stream_process(Ref))}}
    end.

where(Process) ->
    try
        process_info(Process, [current_stacktrace, messages])
    catch
        error:badarg -> Process
    end.

stream_process(Ref) ->
    {ok, Pid} = py_streams:process(Ref),
    Pid.

values([], Ref, Next, Expected, Encoded) ->
    read(Ref, Next, Expected, Encoded);
values([Value | Rest], Ref, Next, Expected, Encoded) ->
    case Encoded(Next) of
        Value when Rest =:= [] -> read(Ref, Next + 1, Expected, Encoded);
        Value -> values(Rest, Ref, asked(Ref, Next + 1, Expected), Expected, Encoded);
        _ when is_integer(Value), Value < Next -> {doubled, {Value, Next}};
        _ -> {lost, {Value, Next}}
    end.

%% Of a batch whose last value is not the one after which more is asked for.
asked(Ref, Next, {demand, Step, _}) when Next rem Step =:= 0 ->
    ok = py:stream_demand(Ref, Step),
    Next;
asked(_Ref, Next, _Expected) ->
    Next.

%%% Pools and workers that come and go.

pools(Context = #{stop := Stop}) ->
    case atomics:get(Stop, 1) of
        1 ->
            ok;
        0 ->
            Opts = #{python_path => [path()]},
            judge(own_worker, own_worker(Opts), note_first(own_worker, Context)),
            judge(own_pool, own_pool(Opts#{workers => 1}), note_first(own_pool, Context)),
            clean(pools, Context),
            pause(500),
            pools(Context)
    end.

note_first(Kind, Context) ->
    note(Kind, Context),
    Context.

path() ->
    #{default := #{python_path := [Path]}} = element(2, application:get_env(erlang_python, pools)),
    Path.

own_worker(Opts) ->
    {Pid, Monitor} = spawn_monitor(fun() ->
        user_process(),
        case py:start_worker(Opts) of
            {ok, Worker} ->
                process_flag(trap_exit, true),
                Outcome = same(7, py:call(?PYTHON, echo, [7], #{}, #{pool => Worker})),
                ok = py:stop_worker(Worker),
                exit({outcome, Outcome});
            {error, _} ->
                exit({outcome, allowed})
        end
    end),
    receive
        {'DOWN', Monitor, process, Pid, {outcome, {error, {no_pool, _}}}} -> allowed;
        {'DOWN', Monitor, process, Pid, {outcome, Outcome}} -> Outcome;
        %% It is linked to the worker.
        {'DOWN', Monitor, process, Pid, _} -> allowed
    after 2 * ?LOST_MS ->
        {untold, process_info(Pid, current_stacktrace)}
    end.

own_pool(Opts) ->
    case py:start_pool(chaos_own, Opts) of
        {ok, _} ->
            Outcome = same([0, 1, 2], py:stream(?PYTHON, count, [3], #{}, #{pool => chaos_own})),
            stop_pool(chaos_own, 100),
            Outcome;
        {error, _} ->
            stop_pool(chaos_own, 100),
            allowed
    end.

stop_pool(Name, Times) ->
    _ = py:stop_pool(Name),
    case lists:member(Name, py_pool:names()) of
        true when Times > 0 ->
            pause(50),
            stop_pool(Name, Times - 1);
        true ->
            error({pool_stays, Name});
        false ->
            ok
    end.

%%% The storm.

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

%%% The library.

library() ->
    {ok, Modules} = application:get_key(erlang_python, modules),
    [
        begin
            {Module, Binary, File} = code:get_object_code(Module),
            {module, Module} = code:ensure_loaded(Module),
            {Module, File, Binary}
        end
     || Module <- Modules
    ].

library_processes() ->
    [{Pid, Kind} || Pid <- processes(), Kind <- [kind(Pid)], Kind =/= user, Kind =/= other].

%% The module that a process of the library runs, or whose it is.
kind(Pid) ->
    case process_info(Pid, [dictionary, current_stacktrace, initial_call]) of
        undefined ->
            other;
        [{dictionary, Dictionary}, {current_stacktrace, Stack}, {initial_call, {First, _, _}}] ->
            case proplists:get_value(chaos_user, Dictionary, false) of
                true ->
                    user;
                false ->
                    {Initial, _, _} = proplists:get_value('$initial_call', Dictionary, {other, x, 0}),
                    Modules = [Initial, First | lists:reverse([M || {M, _, _, _} <- Stack])],
                    case supervised(Pid, [M || M <- Modules, is_library(M)]) of
                        [] -> other;
                        [Kind | _] -> Kind
                    end
            end
    end.

supervised(Pid, Modules) ->
    case whereis(erlang_python) of
        Pid -> [pg];
        _ ->
            case process_info(Pid, registered_name) of
                {registered_name, Name} when is_atom(Name) -> [Name || is_library(Name)] ++ Modules;
                _ -> Modules
            end
    end.

is_library(Module) ->
    lists:prefix("py_", atom_to_list(Module)) andalso Module =/= py_app.

%%% What is left.

settled() ->
    test_eventually:true(fun() -> is_settled() end, 60000),
    test_workers:idle(default).

is_settled() ->
    #{size := Size} = py:info(default),
    length(test_workers:ready(default)) =:= Size andalso ets:info(py_processes, size) =:= Size.

measured(Context) ->
    #{
        tables => tables(),
        processes => kinds_of_processes(),
        ports => lists:sort([element(2, erlang:port_info(Port, name)) || Port <- erlang:ports()]),
        descriptors => descriptors(),
        os_processes => os_processes(Context),
        atoms => erlang:system_info(atom_count),
        memory => memory()
    }.

left(Before, Context) ->
    try
        settled(),
        ok = py:restart_workers(default),
        settled(),
        %% The counts of Python's processes are read from the system.
        Compare = [tables, processes, ports, descriptors, os_processes],
        As = fun() -> [{Key, maps:get(Key, measured(Context))} || Key <- Compare] end,
        Was = [{Key, maps:get(Key, Before)} || Key <- Compare],
        try
            test_eventually:equal(Was, As)
        catch
            error:{never, _, _} -> ok
        end,
        Differ = [{Key, {Value -- Now, Now -- Value}} || {{Key, Value}, {Key, Now}} <- lists:zip(Was, As()), Value =/= Now, is_list(Value)] ++
            [{Key, {Value, Now}} || {{Key, Value}, {Key, Now}} <- lists:zip(Was, As()), Value =/= Now, not is_list(Value)],
        Atoms = erlang:system_info(atom_count) - maps:get(atoms, Before),
        Differ ++ [{atoms, Atoms, new_atoms(20)} || Atoms > ?ATOMS]
    catch
        error:Reason -> [{never_settled, Reason, [{Kind, process_info(Pid, current_stacktrace)} || {Pid, Kind} <- library_processes(), not lists:member(Kind, ?FEW)]}]
    end.

tables() ->
    lists:sort([
        {Name, ets:info(Table, size)}
     || Table <- ets:all(),
        Name <- [ets:info(Table, name)],
        is_atom(Name),
        is_library(Name),
        %% What was counted of errors by their class, and names of functions.
        not lists:member(Name, [py_errors])
    ]).

kinds_of_processes() ->
    lists:sort([Kind || {_, Kind} <- library_processes()]).

%% The last ones, by their numbers (erl_ext_dist(4) leaves that tag to the VM).
new_atoms(Number) ->
    Count = erlang:system_info(atom_count),
    [binary_to_term(<<131, 75, N:24>>) || N <- lists:seq(Count - Number, Count - 1)].

descriptors() ->
    {ok, Names} = file:list_dir("/proc/self/fd"),
    length(Names).

%% What descends from this node.
os_processes(#{mark := Mark}) ->
    {ok, Names} = file:list_dir("/proc"),
    lists:sort([command(Name) || Name <- Names, is_marked(Name, Mark)]).

command(Name) ->
    case prim_file:read_file("/proc/" ++ Name ++ "/cmdline") of
        {ok, Line} -> binary:replace(binary_part(Line, 0, min(200, byte_size(Line))), <<0>>, <<" ">>, [global]);
        {error, _} -> gone
    end.

is_marked(Name, Mark) ->
    case prim_file:read_file("/proc/" ++ Name ++ "/environ") of
        {ok, Environment} -> binary:match(Environment, unicode:characters_to_binary(Mark)) =/= nomatch;
        {error, _} -> false
    end.

memory() ->
    [erlang:garbage_collect(Pid) || Pid <- processes()],
    Python = [test_workers:memory(Pid) || Pid <- test_workers:ready(default)],
    #{node => erlang:memory(total), python => lists:sum(Python)}.

pause(Ms) ->
    receive
    after Ms -> ok
    end.

now_ms() ->
    erlang:monotonic_time(millisecond).
