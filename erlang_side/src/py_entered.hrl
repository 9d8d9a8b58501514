%% The callbacks of a gen_server that enters its loop by itself, and that nobody calls: init/1 is never
%% called, and the rest of the behaviour is the same in each, but for the end of some. What it does is in handle_info/2. Values are
%% users', and nobody else's to see.

-spec init(term()) -> ignore.
init(_) ->
    ignore.

-spec handle_call(term(), gen_server:from(), State) -> {reply, {error, unknown}, State}.
handle_call(_Other, _From, State) ->
    {reply, {error, unknown}, State}.

-spec handle_cast(term(), State) -> {noreply, State}.
handle_cast(_Other, State) ->
    {noreply, State}.

-spec format_status(gen_server:format_status()) -> gen_server:format_status().
format_status(Status) ->
    py_status:without_values(Status).

-ifndef(OWN_TERMINATE).
-spec terminate(term(), State) -> ok when State :: term().
terminate(Reason, _State) ->
    py_status:without_mail(Reason).
-endif.
